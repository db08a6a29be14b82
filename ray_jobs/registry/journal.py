"""The journal of a registry in storage. Its last entry decides what is in production: there is no second truth.

Each entry is an object named after its number, written only if that number is free. So of several processes at once one
makes its move, and the others are told that the state on which they decided is no longer there. A rollback is one
object; nothing is ever changed, and a crash leaves either the whole move or none of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

from cluster import Store
from cluster.storage.read_ahead import Window, in_order
from ray_jobs.errors import JobError
from ray_jobs.labels.label_event import later_than, new_id
from ray_jobs.output.layout import REGISTRY
from ray_jobs.registry.moves import JournalEntry, Move
from ray_jobs.registry.registry_state import RegistryState, state_of
from ray_jobs.results.json_format import REMEDY, NewerFormatError

JOURNAL = "journal"
"""The folder of the entries of a registry."""
AGAIN = "Nothing was done; run again to decide anew."


class RegistryMovedError(JobError):
    """Another process moved the registry after its state was read; nothing was written."""


def _now() -> datetime:
    return datetime.now(UTC)


class Journal:
    """Reads and extends a journal; entries that were read once are not read again.

    Args:
        store: the output.
        job: name of the job whose classifiers are registered.
        clock: returns the time; for tests.
    """

    def __init__(self, store: Store, job: str, *, clock: Callable[[], datetime] = _now) -> None:
        self.store = store
        self.job = job
        self.folder = f"{REGISTRY}/{job}"
        self._clock = clock
        self._window = Window(first=8, most=64)
        self._entries: list[JournalEntry] = []
        self._digest = ""

    def entries(self) -> list[JournalEntry]:
        """Return all entries, in order, after reading those that are new.

        Raises:
            JobError: an entry is damaged, missing, or from a newer version.
            StorageError: storage does not respond.
        """
        listed = sorted(path for path in self.store.list(f"{self.folder}/{JOURNAL}") if path.endswith(".json"))
        known = len(self._entries)
        new = [self._path(number) for number in range(known + 1, len(listed) + 1)]
        missing = next((path for path, found in zip(new, listed[known:], strict=True) if path != found), None)
        if missing is not None:
            raise JobError([f"{self.store.url(missing)} is missing. {_restore(self.store.url(missing))}"])
        for path, data in zip(new, in_order(self.store.get, new, self._window), strict=True):
            self._read(self.store.url(path), data)
        return list(self._entries)

    def _read(self, url: str, data: bytes) -> None:
        try:
            entry = JournalEntry.from_json(data, where=url)
        except NewerFormatError:
            raise
        except JobError as error:
            problem = " ".join(error.problems).removesuffix(REMEDY).strip()
            raise JobError([f"{problem} {_restore(url)}"]) from error
        if (entry.sequence, entry.previous) != (len(self._entries) + 1, self._digest):
            raise JobError([f"{url} does not continue the entry before it: one of them was changed. {_restore(url)}"])
        self._take(entry, data)

    def _take(self, entry: JournalEntry, data: bytes) -> None:
        self._entries.append(entry)
        self._digest = hashlib.blake2b(data, digest_size=16).hexdigest()

    def state(self) -> RegistryState:
        """Return what the entries come to. Raises as `entries`."""
        return state_of(self.entries())

    def append(self, move: Move, *, by: str, why: str, after: RegistryState) -> RegistryState:
        """Make a move; it is stored when this returns.

        Args:
            move: what to do.
            by: who does it.
            why: in a sentence.
            after: the state that was read and decided on.

        Returns:
            the state after it.

        Raises:
            RegistryMovedError: another process made a move since.
            JobError: the move cannot be made from this state, or the journal is damaged.
            StorageError: it could not be written.
        """
        moved = after.after(move)
        self._check_unmoved(after)
        entry = JournalEntry(
            sequence=moved.sequence,
            previous=self._digest,
            id=new_id(),
            time=later_than(self._entries[-1].time if self._entries else None, self._clock()),
            by=by,
            why=why,
            move=move,
        )
        data = entry.to_bytes()
        if not self.store.put_if_absent(self._path(entry.sequence), data):
            self._check_unmoved(after)
            raise RegistryMovedError([f"{self.store.url(self._path(entry.sequence))} could not be written. {AGAIN}"])
        self._take(entry, data)
        return moved

    def _check_unmoved(self, state: RegistryState) -> None:
        """Raise RegistryMovedError unless the state is that after the last entry."""
        if len(entries := self.entries()) != state.sequence:
            last = entries[-1]
            move = f"{last.move.kind} by {last.by} at {last.time} ({last.why})"
            raise RegistryMovedError(
                [f"the registry {self.store.url(self.folder)} was moved meanwhile: {move}. {AGAIN}"]
            )

    def _path(self, sequence: int) -> str:
        return f"{self.folder}/{JOURNAL}/{sequence:06d}.json"


def jobs_with_registry(store: Store) -> list[str]:
    """Return the names of the jobs of an output that have a registry."""
    return sorted(folder.rpartition("/")[2] for folder in store.folders(REGISTRY))


def _restore(url: str) -> str:
    return f"Restore {url} from a copy: what is in production is decided by all entries together."
