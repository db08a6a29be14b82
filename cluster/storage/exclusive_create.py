"""Create an object only if it does not exist: by conditional write where storage has that, by claims where it has not.

Some servers treat a conditional write as a plain one and overwrite silently. So each process probes a store once: it
creates the same name twice, and the second attempt must fail.

Where it does not fail, writers take turns by *claims*. A writer puts a claim with a unique name beside the object, then
lists the claims. If its own is the only one, no later writer can be the only one while that claim stands, so the
writer may check whether the object exists and write it. If there are other claims, it removes its own and tries again
after a random delay. This needs a store whose listings show all earlier writes, as those of S3 do. The claim of a dead
writer is removed by any writer that has seen it for `STALE_CLAIM_S`; a writer that stalls for longer, between its
listing and its write, may overwrite another's object. That is the one advantage of conditional writes.
"""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

from cluster.storage.error_classes import is_transient
from cluster.storage.objects import TEMPORARY, Objects
from cluster.storage.retry import Retry
from cluster.storage.s3_requests import s3_code

T = TypeVar("T")

STALE_CLAIM_S = 30.0
"""Age in seconds, as seen by another writer, after which the writer of a claim counts as dead."""
WAIT_S = 0.2

_PROCESS = uuid4().hex
_UNSUPPORTED = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_supported: dict[object, bool] = {}
_probing = threading.Lock()
_JITTER = random.SystemRandom()


def supports_exclusive_create(objects: Objects, place: object) -> bool:
    """Return whether `Objects.write_new` leaves an existing object alone. Probed once for each place in a process.

    Args:
        objects: the store to probe.
        place: a hashable name of the store.
    """
    with _probing:
        if place not in _supported:
            _supported[place] = _second_write_fails(objects)
        return _supported[place]


def _second_write_fails(objects: Objects) -> bool:
    """Return whether one of two writes of the same name is refused.

    A lost response may have the first one sent twice and refused; that shows the same as a refusal of the second.
    """
    path = f"{TEMPORARY}probe-{_PROCESS}-{os.getpid()}"
    try:
        objects.write_new(path, b"first")
        objects.write_new(path, b"second")
    except FileExistsError:
        return True
    except OSError as error:
        if error.errno in _UNSUPPORTED or s3_code(error) == "NotImplemented":
            return False
        raise
    finally:
        with suppress(OSError):
            objects.delete(path)
    return False


def create_by_claims(objects: Objects, retry: Retry, path: str, data: bytes) -> bool:
    """Create an object unless it exists, on a store without conditional writes.

    Args:
        objects: the store.
        retry: for each request; its clock and sleep also time the claims.
        path: of the object.
        data: its content.

    Returns:
        Whether this call wrote the object.
    """
    store = _RetriedObjects(objects, retry)
    folder, _, name = path.rpartition("/")
    claims = f"{folder}/claims-{name}".lstrip("/")
    seen: dict[str, float] = {}
    while not store.exists(path):
        own = f"{claims}/{uuid4().hex}"  # A new name each time: one used twice would seem to stand without a break.
        store.write(own, b"")
        try:
            listed = store.list(claims)
            others = listed - {own}
            if listed == {own}:
                return _write_unless_exists(store, path, data)
        finally:
            store.delete(own)
        _remove_stale_claims(store, others, seen)
        retry.sleep(WAIT_S * (0.2 + _JITTER.random()) * max(1, len(others)))
    return False


@dataclass(frozen=True, slots=True)
class _RetriedObjects:
    """Requests to a store, each retried on its own."""

    objects: Objects
    retry: Retry

    def exists(self, path: str) -> bool:
        try:
            self._call(lambda: self.objects.size(path))
        except FileNotFoundError:
            return False
        return True

    def write(self, path: str, data: bytes) -> None:
        self._call(lambda: self.objects.write(path, data))

    def list(self, folder: str) -> frozenset[str]:
        return self._call(lambda: frozenset(self.objects.list(folder)))

    def delete(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._call(lambda: self.objects.delete(path))

    def _call(self, action: Callable[[], T]) -> T:
        return self.retry.call(action, is_transient=is_transient)


def _write_unless_exists(store: _RetriedObjects, path: str, data: bytes) -> bool:
    if store.exists(path):
        return False
    store.write(path, data)
    return True


def _remove_stale_claims(store: _RetriedObjects, claims: frozenset[str], seen: dict[str, float]) -> None:
    """Remove claims seen for longer than `STALE_CLAIM_S`; `seen` has the time when each was seen first."""
    now = store.retry.clock()
    for claim in claims:
        if now - seen.setdefault(claim, now) > STALE_CLAIM_S:
            store.delete(claim)
