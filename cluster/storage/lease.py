"""A lease on a folder of a store: one process at a time writes there, and the others get an error that names it.

Storage needs only two properties: an object can be created if it is absent, and a listing shows all earlier writes. The
lease is one object, `<folder>/<epoch>`, with a counter that its owner raises for as long as it runs. Clocks of machines
are never compared. A second process watches the counter by its own clock: if it moves, the lease is taken; if it stands
for a whole term, or the owner was a process of the same machine that has died, the second process creates the next
epoch, in which only one of several succeeds. An owner that was only suspended finds the later epoch when it resumes,
and stops. Earlier epochs are removed.

Writes that an owner makes between losing the lease and noticing it still arrive: storage does not check leases. They do
no harm where, as here, equal names have equal bytes.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from cluster.errors import DamagedLeaseError, LeaseHeldError, LeaseLostError
from cluster.storage.lease_owner import Owner
from cluster.storage.store import Store

TERM_S = 30.0

Note: TypeAlias = Mapping[str, Any]
"""What an owner reports of its work: a few JSON values."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The content of an epoch's object.

    Attributes:
        owner: the process with the lease.
        term_s: seconds without a renewal after which the owner counts as dead.
        renewals: the counter.
        note: what the owner reports of its work, JSON values for messages.
    """

    owner: Owner
    term_s: float
    renewals: int = 0
    note: Note = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the stored form, JSON."""
        own = {"term_s": self.term_s, "renewals": self.renewals, "note": self.note}
        return json.dumps(self.owner.to_json() | own).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> LeaseRecord:
        """Parse the stored form.

        Raises:
            ValueError, KeyError, TypeError: the bytes are not a lease.
        """
        values = json.loads(data)
        note = values.get("note", {})
        return cls(
            Owner.from_json(values),
            float(values["term_s"]),
            int(values["renewals"]),
            note if isinstance(note, dict) else {},
        )


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A lease as it is stored at one moment.

    Attributes:
        owner: the process with the lease.
        term_s: seconds without a renewal after which others may take over.
        age_s: seconds since its last renewal; None where storage does not report it.
        note: what the owner reported of its work then; values of any kind.
    """

    owner: Owner
    term_s: float
    age_s: float | None
    note: Note

    @property
    def is_alive(self) -> bool:
        """Whether the owner is probably running: not known to be dead, and the last renewal no older than the term."""
        return not self.owner.is_dead and (self.age_s is None or self.age_s <= self.term_s)


class Lease:
    """A lease of this process, renewed by its own thread until `release`. See `acquire_lease`."""

    def __init__(
        self, store: Store, folder: str, epoch: int, record: LeaseRecord, note: Callable[[], Note] = dict
    ) -> None:
        retry = replace(store.retry, deadline_s=record.term_s / 3, throttled_deadline_s=None)
        self._store = replace(store, retry=retry)
        self._folder, self._epoch, self._record, self._note = folder, epoch, record, note
        self._renewed_at = _clock_s()
        self._lost: str | None = None
        self._renewing = threading.Lock()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_released, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise if the lease is lost; call this before every write. Makes no request while renewals are on time.

        Raises:
            LeaseLostError: another process took over.
            StorageError: renewals are late (this process was suspended, or storage is slow), and storage fails now.
        """
        if self._is_late:
            self._renew()
        if self._lost is not None:
            raise LeaseLostError(self._lost)

    def release(self) -> None:
        """Remove the lease, so that the next process need not wait for its term."""
        self._released.set()
        self._thread.join()
        try:
            if self._lost is None and not (self._is_late and self._new_owner()):
                self._store.delete(_path(self._folder, self._epoch))
        except OSError as error:
            logger.warning("lease not released folder=%s error=%s", self._folder, error)

    @property
    def _is_late(self) -> bool:
        """Whether a renewal was missed, so that another process may have taken over."""
        return _clock_s() - self._renewed_at > self._record.term_s / 2

    def _renew_until_released(self) -> None:
        while not self._released.wait(self._record.term_s / 3) and self._lost is None:
            try:
                self._renew()
            except OSError as error:
                logger.warning("lease not renewed folder=%s error=%s", self._folder, error)

    def _renew(self) -> None:
        """Raise the counter, unless another process has the lease."""
        with self._renewing:
            now = _clock_s()
            if self._lost is None and (new_owner := self._new_owner()) is not None:
                self._lost = (
                    f"{self._store.url(self._folder)} was taken over by {new_owner}; nothing more is written here"
                )
            if self._lost is None:
                self._record = replace(self._record, renewals=self._record.renewals + 1, note=self._note())
                self._store.put(_path(self._folder, self._epoch), self._record.to_bytes())
                self._renewed_at = now

    def _new_owner(self) -> str | None:
        """Return a description of the process that took over; None if this process still has the lease."""
        last = _last_epoch(self._store, self._folder)
        if last < self._epoch:
            return "another process, which has finished"
        found = _read(self._store, self._folder, last)
        if found is None:
            return "another process"
        return None if found.owner.token == self._record.owner.token else str(found.owner)


def _clock_s() -> float:
    """Return the time of a clock that also runs while the machine is suspended, where the system has one.

    To other machines a suspended owner is a silent one.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@contextmanager
def acquire_lease(
    store: Store,
    folder: str,
    *,
    term_s: float = TERM_S,
    on_wait: Callable[[str], None] = lambda _: None,
    note: Callable[[], Note] = dict,
) -> Iterator[Lease]:
    """Acquire the lease on a folder, and release it after the block.

    Args:
        store: contains the folder.
        folder: for the lease alone, relative to the store.
        term_s: seconds without a renewal after which others may take over; the lease is renewed three times a term.
        on_wait: called with a description of the present owner before its counter is watched, which takes at most the
            owner's term.
        note: returns what `lease_state` tells others of the work, a few JSON values; called at every renewal, in the
            lease's own thread.

    Raises:
        LeaseHeldError: another live process has the lease. Nothing was written.
        StorageError: storage failed.
    """
    lease = _acquire(store, folder, term_s, on_wait, note)
    try:
        yield lease
    finally:
        lease.release()


def lease_state(store: Store, folder: str, *, paths: Iterable[str] | None = None) -> LeaseState | None:
    """Look up the lease on a folder, without waiting.

    Args:
        store: contains the folder.
        folder: for the lease alone, relative to the store.
        paths: objects that include those of the folder, if they were listed already; None lists the folder.

    Returns:
        the lease, whose owner may have died (see `LeaseState.is_alive`); None if there is none.

    Raises:
        DamagedLeaseError: the object there is not a lease.
        StorageError: storage failed.
    """
    last = max(_epochs(store, folder) if paths is None else _epochs_in(paths, folder), default=0)
    found = _read(store, folder, last) if last else None
    if found is None:
        return None
    try:
        age_s = store.age_s(_path(folder, last))
    except FileNotFoundError:  # Released meanwhile.
        return None
    return LeaseState(found.owner, found.term_s, age_s, found.note)


def _acquire(
    store: Store, folder: str, term_s: float, on_wait: Callable[[str], None], note: Callable[[], Note]
) -> Lease:
    record = LeaseRecord(Owner.this_process(), term_s)
    while True:
        last = _last_epoch(store, folder)
        if last and not _is_expired(store, folder, last, on_wait):
            continue
        if not store.put_if_absent(_path(folder, last + 1), record.to_bytes()):
            continue
        epochs = _epochs(store, folder)
        if max(epochs, default=0) > last + 1:  # The epoch seen above was already over when this one was created.
            store.delete(_path(folder, last + 1))
            continue
        for epoch in epochs:
            if epoch <= last:
                store.delete(_path(folder, epoch))
        return Lease(store, folder, last + 1, record, note)


def _is_expired(store: Store, folder: str, epoch: int, on_wait: Callable[[str], None]) -> bool:
    """Return True if the owner of an epoch is dead, False if the epoch has ended; watches it for up to a term.

    Raises:
        LeaseHeldError: the owner is alive.
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
                f"{where} is being written by {now.owner}; nothing was done. Wait for it, or stop it and run again."
            )
    return True


def _path(folder: str, epoch: int) -> str:
    return f"{folder}/{epoch}"


def _epochs(store: Store, folder: str) -> list[int]:
    return _epochs_in(store.list(folder), folder)


def _epochs_in(paths: Iterable[str], folder: str) -> list[int]:
    names = (path.removeprefix(f"{folder}/") for path in paths if path.startswith(f"{folder}/"))
    return [int(name) for name in names if name.isdecimal()]


def _last_epoch(store: Store, folder: str) -> int:
    """Return the latest epoch; 0 if there is none."""
    return max(_epochs(store, folder), default=0)


def _read(store: Store, folder: str, epoch: int) -> LeaseRecord | None:
    try:
        return LeaseRecord.from_bytes(store.get(_path(folder, epoch)))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        path = store.url(_path(folder, epoch))
        raise DamagedLeaseError(
            f"{path} is not a valid lease: {error}. Remove it if no process writes there, and run again."
        ) from error
