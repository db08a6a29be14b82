"""The ledger of labels in storage: a folder in which objects are only ever added.

Each batch of events is an object with a name of its own, so writers never meet, on S3 as on a disk: two people at once
lose nothing, and a batch is there as a whole or not at all.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from threading import RLock

from cluster import Storage, StorageError, Store
from cluster.errors import SourceError
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.errors import JobError
from ray_jobs.job_file.sections import Job
from ray_jobs.labels.current_labels import CurrentLabels, current_labels
from ray_jobs.labels.label_event import Event, EventBatch, LabelEvent, UndoEvent, later_than, new_id
from ray_jobs.output.layout import EVENTS, LABELS
from ray_jobs.results.json_format import REMEDY, NewerFormatError

NO_TIME = "1970-01-01T00:00:00.000000Z"
"""Time of an event that is not in a ledger yet: `append` sets it."""


def _now() -> datetime:
    return datetime.now(UTC)


class LabelLedger:
    """Reads and writes a ledger; what was read once is not read again. Several threads may share one.

    Args:
        store: the folder of the ledger; an output has its own in "labels".
        clock: returns the time; for tests.
    """

    def __init__(self, store: Store, *, clock: Callable[[], datetime] = _now) -> None:
        self.store = store
        self._clock = clock
        self._read: dict[str, tuple[Event, ...]] = {}
        self._lock = RLock()

    def events(self) -> list[Event]:
        """Return all events, after reading the batches that are new.

        Raises:
            JobError: a batch is damaged, or from a newer version.
            StorageError: storage does not respond.
        """
        with self._lock:
            for path in self.store.list(EVENTS):
                if path not in self._read and path.endswith(".json"):
                    self._read[path] = self._batch(path)
            return [event for batch in self._read.values() for event in batch]

    def batches(self) -> list[tuple[Event, ...]]:
        """Return the events in the batches in which they were written, in the order of the first of each.

        Raises: as `events`.
        """
        with self._lock:
            self.events()
            batches = [batch for batch in self._read.values() if batch]
        return sorted(batches, key=lambda batch: (batch[0].time, batch[0].id))

    def _batch(self, path: str) -> tuple[Event, ...]:
        url = self.store.url(path)
        try:
            return EventBatch.from_json(self.store.get(path), where=url).events
        except NewerFormatError:
            raise
        except JobError as error:
            hint = f"Labels in {url} would be lost without it: restore it from a copy, or move it away to go on."
            raise JobError([f"{' '.join(error.problems).removesuffix(REMEDY).strip()} {hint}"]) from error

    def current(self) -> CurrentLabels:
        """Return the label of each image. Raises as `events`."""
        return current_labels(self.events())

    def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Write events as one batch; they are stored when this returns.

        Args:
            events: in the order in which they happened, see `new_label`; their times are set here.

        Returns:
            the events as they were written.

        Raises:
            JobError: a batch of the ledger is damaged, see `events`.
            StorageError: they could not be written.
        """
        if not events:
            return ()
        latest = max((event.time for event in self.events()), default=None)
        written: list[Event] = []
        now = self._clock()
        for event in events:
            latest = later_than(latest, now)
            written.append(replace(event, time=latest))
        batch = EventBatch(events=tuple(written))
        path = f"{EVENTS}/{_compact(written[0].time)}-{new_id()[:12]}.json"
        self.store.put(path, batch.to_bytes())
        with self._lock:
            self._read[path] = batch.events
        return batch.events

    def undo(self, ids: Iterable[str], *, by: str) -> tuple[Event, ...]:
        """Undo events.

        Args:
            ids: of the events.
            by: who undoes them.

        Raises:
            JobError: there is no such event, or as `append`.
            StorageError: as `append`.
        """
        wanted, known = list(ids), {event.id for event in self.events()}
        if unknown := [each for each in wanted if each not in known]:
            raise JobError([f"no event {unknown[0]} to undo in {self.store.root}"])
        return self.append([UndoEvent(id=new_id(), time=NO_TIME, by=by, undoes=each) for each in wanted])


def new_label(**values: object) -> LabelEvent:
    """Return an event with a new ID, for `LabelLedger.append`, which sets its time.

    Args:
        values: the other attributes of a `LabelEvent`.
    """
    return LabelEvent(id=new_id(), time=NO_TIME, **values)  # type: ignore[arg-type]


def open_ledger(url: str, storage: Storage = DEFAULT_STORAGE) -> LabelLedger:
    """Open the ledger in a folder, which need not exist yet.

    Args:
        url: of the folder.
        storage: how S3 is reached.

    Raises:
        JobError: the URL is wrong.
    """
    try:
        return LabelLedger(Store(url, storage=storage))
    except (SourceError, StorageError) as error:
        raise JobError([str(error)]) from error


def ledger_of_run(job: Job, output: Store) -> LabelLedger:
    """Return the ledger that a run's labels are read from and written to; it need not exist yet.

    Args:
        job: the job file of the run. If `support.labels` names a ledger, it is this one.
        output: where the run lies now, which has the ledger of all other jobs.

    Raises:
        JobError: the URL is wrong.
    """
    named = None if job.support is None else job.support.labels
    return open_ledger(named if isinstance(named, str) else output.url(LABELS), output.storage)


def user_name() -> str:
    """Return who is at work here, for events; "unknown" where the system does not say."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _compact(time: str) -> str:
    return time.replace("-", "").replace(":", "").replace(".", "")
