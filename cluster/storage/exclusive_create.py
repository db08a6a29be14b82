"""Creating an object only if there is none: what storage does by itself, and what is done where it cannot.

Some servers take a conditional write for a plain one, and overwrite without a word. So a store is asked once in each
process: create the same name twice, the second time must fail.

Where it does not, writers take turns by *claims*. A writer puts a claim with a name of its own beside the object, then
lists the claims. If its own is the only one, nobody else can come to see only theirs as long as it stands, so it may
look whether the object exists and write it. If there are others, it takes its claim back and tries again after a random
while. That takes a store whose listings show what was put before, as S3's do. The claim of a writer that died is
removed by whoever has seen it stand for `PATIENCE_S`; a writer that stalls for longer, between its listing and
its write, may overwrite another's object. This is the one thing that conditional writes have ahead of it.
"""

from __future__ import annotations

import errno
import os
import random
import threading
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from cluster.storage.filesystems import s3_code
from cluster.storage.objects import TEMPORARY, Objects

if TYPE_CHECKING:
    from cluster.storage.store import Store

PATIENCE_S = 30.0
WAIT_S = 0.2

_PROCESS = uuid4().hex
_UNABLE = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_known: dict[object, bool] = {}
_asking = threading.Lock()
_JITTER = random.SystemRandom()


def creates_exclusively(objects: Objects, place: object) -> bool:
    """Whether `Objects.write_new` really leaves alone what is there. Asked once in a process for each place.

    Args:
        objects: where to try it.
        place: names it; hashable.
    """
    with _asking:
        if place not in _known:
            _known[place] = _refuses_a_second(objects)
        return _known[place]


def _refuses_a_second(objects: Objects) -> bool:
    """A refusal of the first of the two, which an answer that was lost may lead to, is as good as one of the second."""
    path = f"{TEMPORARY}probe-{_PROCESS}-{os.getpid()}"
    try:
        objects.write_new(path, b"first")
        objects.write_new(path, b"second")
    except FileExistsError:
        return True
    except OSError as error:
        if error.errno in _UNABLE or s3_code(error) == "NotImplemented":
            return False
        raise
    finally:
        with suppress(OSError):
            objects.delete(path)
    return False


def create_by_claims(store: Store, path: str, data: bytes) -> bool:
    """Create an object unless it exists, on a store that cannot do that by itself.

    Returns:
        Whether the object is now this one.
    """
    folder, _, name = path.rpartition("/")
    claims = f"{folder}/claims-{name}".lstrip("/")
    seen: dict[str, float] = {}
    while not store.exists(path):
        own = f"{claims}/{uuid4().hex}"  # Another one each time: one that came again would seem to stand all the while.
        store.put(own, b"")
        try:
            listed = frozenset(store.list(claims))
            others = listed - {own}
            if listed == {own}:
                return _created(store, path, data)
        finally:
            store.delete(own)
        _remove_the_dead(store, others, seen)
        store.retry.sleep(WAIT_S * (0.2 + _JITTER.random()) * max(1, len(others)))
    return False


def _created(store: Store, path: str, data: bytes) -> bool:
    if store.exists(path):
        return False
    store.put(path, data)
    return True


def _remove_the_dead(store: Store, claims: frozenset[str], seen: dict[str, float]) -> None:
    now = store.retry.clock()
    for claim in claims:
        if now - seen.setdefault(claim, now) > PATIENCE_S:
            store.delete(claim)
