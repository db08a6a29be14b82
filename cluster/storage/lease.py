"""A lease on a folder of a store: of several processes that want to write there, one does, the others are told who.

Only two things are asked of storage: that an object can be created if it is absent, and that a listing shows what was
written before. The lease is one object, `<folder>/<epoch>`, with a counter in it that the holder raises as long as it
lives. Clocks of machines are never compared. Who comes second watches the counter with its own: if it moves, the folder
is taken; if it stands for a whole term, or the holder was a process of the same machine that is dead, the next epoch is
created, and of several who try that, one succeeds. A holder that was only asleep finds the later epoch when it wakes,
and stops. Epochs that are over are removed.

What a holder writes between losing the lease and noticing it is not kept from arriving: storage knows no leases. It
does no harm where, as here, equal names have equal bytes.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from cluster.errors import LeaseHeldError, LeaseLostError, StorageError
from cluster.storage.lease_owner import Owner
from cluster.storage.store import Store

TERM_S = 30.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What the object of an epoch says.

    Attributes:
        owner: who.
        term_s: seconds of silence after which it may be taken for dead.
        renewals: the counter.
    """

    owner: Owner
    term_s: float
    renewals: int = 0

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return json.dumps(self.owner.to_json() | {"term_s": self.term_s, "renewals": self.renewals}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> LeaseRecord:
        """The inverse of `to_bytes`."""
        values: dict[str, Any] = json.loads(data)
        return cls(Owner.from_json(values), float(values["term_s"]), int(values["renewals"]))


class Lease:
    """A lease that this process holds, renewed by a thread of its own until `release`. See `hold`."""

    def __init__(self, store: Store, folder: str, epoch: int, holder: LeaseRecord) -> None:
        self._store = replace(store, retry=replace(store.retry, deadline_s=holder.term_s / 3))
        self._folder, self._epoch, self._holder = folder, epoch, holder
        self._renewed_at = _seconds()
        self._lost: str | None = None
        self._renewing = threading.Lock()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew_on, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Call this before anything is written. Costs nothing as long as renewals come on time.

        Raises:
            LeaseLostError: somebody else took over.
            StorageError: renewals are late (this process slept, or storage does), and storage does not answer now.
        """
        if self._is_late:
            self._renew()
        if self._lost is not None:
            raise LeaseLostError(self._lost)

    def release(self) -> None:
        """Let go, so that the next one need not wait."""
        self._released.set()
        self._thread.join()
        try:
            if self._lost is None and not (self._is_late and self._taker()):
                self._store.delete(_path(self._folder, self._epoch))
        except OSError as error:
            logger.warning("lease not released folder=%s error=%s", self._folder, error)

    @property
    def _is_late(self) -> bool:
        """Whether a renewal was missed, so that others may have come."""
        return _seconds() - self._renewed_at > self._holder.term_s / 2

    def _renew_on(self) -> None:
        while not self._released.wait(self._holder.term_s / 3) and self._lost is None:
            try:
                self._renew()
            except OSError as error:
                logger.warning("lease not renewed folder=%s error=%s", self._folder, error)

    def _renew(self) -> None:
        """Raise the counter, unless the lease is somebody else's."""
        with self._renewing:
            now = _seconds()
            if self._lost is None and (taker := self._taker()) is not None:
                self._lost = f"{self._store.url(self._folder)} was taken over by {taker}; nothing more is written here"
            if self._lost is None:
                self._holder = replace(self._holder, renewals=self._holder.renewals + 1)
                self._store.put(_path(self._folder, self._epoch), self._holder.to_bytes())
                self._renewed_at = now

    def _taker(self) -> str | None:
        """Who has the lease now; None if it is still this process."""
        last = _last_epoch(self._store, self._folder)
        if last < self._epoch:
            return "another process, which is through"
        found = _read(self._store, self._folder, last)
        if found is None:
            return "another process"
        return None if found.owner.token == self._holder.owner.token else str(found.owner)


def _seconds() -> float:
    """A clock that goes on while the whole machine sleeps, where the system has one: others see us silent then."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@contextmanager
def acquire_lease(
    store: Store, folder: str, *, term_s: float = TERM_S, on_wait: Callable[[str], None] = lambda _: None
) -> Iterator[Lease]:
    """Hold the lease on a folder.

    Args:
        store: where.
        folder: of the lease, and of nothing else, relative to the store.
        term_s: seconds without a renewal after which others may take over; it is renewed three times as often.
        on_wait: told who is there, when that has to be watched: for as long as the holder's term at most.

    Raises:
        LeaseHeldError: somebody else holds it and is alive. Nothing was written.
        StorageError: storage does not answer.
    """
    lease = _acquire(store, folder, term_s, on_wait)
    try:
        yield lease
    finally:
        lease.release()


def lease_owner(store: Store, folder: str) -> Owner | None:
    """Who has the lease on a folder, as far as a look can tell; nothing is waited for.

    Returns:
        its owner, who may have been killed without another process having noticed yet; None if there is none, or it
        was a process of this machine that is dead.

    Raises:
        StorageError: storage does not answer, or what lies there is no lease.
    """
    last = _last_epoch(store, folder)
    found = _read(store, folder, last) if last else None
    return None if found is None or found.owner.is_dead else found.owner


def _acquire(store: Store, folder: str, term_s: float, on_wait: Callable[[str], None]) -> Lease:
    holder = LeaseRecord(Owner.here(), term_s)
    while True:
        last = _last_epoch(store, folder)
        if last and not _stands_still(store, folder, last, on_wait):
            continue
        if not store.put_if_absent(_path(folder, last + 1), holder.to_bytes()):
            continue
        epochs = _epochs(store, folder)
        if max(epochs, default=0) > last + 1:  # What was seen above was long over when this was created.
            store.delete(_path(folder, last + 1))
            continue
        for epoch in epochs:
            if epoch <= last:
                store.delete(_path(folder, epoch))
        return Lease(store, folder, last + 1, holder)


def _stands_still(store: Store, folder: str, epoch: int, on_wait: Callable[[str], None]) -> bool:
    """Whether the holder of an epoch is dead; False if the epoch is over.

    Raises:
        LeaseHeldError: it is alive.
    """
    first = _read(store, folder, epoch)
    if first is None:
        return False
    if first.owner.is_dead:
        return True
    on_wait(str(first.owner))
    clock, end = store.retry.clock, store.retry.clock() + first.term_s
    while clock() < end:
        store.retry.sleep(first.term_s / 10)
        now = _read(store, folder, epoch)
        if now is None:
            return False
        if now != first:
            where = store.url(folder).rpartition("/")[0]
            raise LeaseHeldError(
                f"{where} is being written by {now.owner}; nothing was done. Let it finish, or stop it and run again."
            )
    return True


def _path(folder: str, epoch: int) -> str:
    return f"{folder}/{epoch}"


def _epochs(store: Store, folder: str) -> list[int]:
    names = (path.removeprefix(f"{folder}/") for path in store.list(folder))
    return [int(name) for name in names if name.isdecimal()]


def _last_epoch(store: Store, folder: str) -> int:
    """0 if there is none."""
    return max(_epochs(store, folder), default=0)


def _read(store: Store, folder: str, epoch: int) -> LeaseRecord | None:
    try:
        return LeaseRecord.from_bytes(store.get(_path(folder, epoch)))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        path = store.url(_path(folder, epoch))
        raise StorageError(f"{path} is no lease: {error}. Remove it if nobody writes there, and run again.") from error
