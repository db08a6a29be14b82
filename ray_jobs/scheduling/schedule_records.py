"""The record of a schedule in the output: read, extended by the one scheduler with the lease, shown to all others."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cluster import Store
from cluster.errors import DamagedLeaseError
from cluster.storage.lease import lease_state
from fewshot.errors import FewShotError
from ray_jobs.errors import JobError
from ray_jobs.output.layout import SCHEDULES
from ray_jobs.results.json_format import NewerFormatError
from ray_jobs.results.schedule_results import ScheduleRecord, ScheduleStatus
from ray_jobs.scheduling.cron_expression import CronExpression, find_zone
from ray_jobs.scheduling.due import Schedule, decide

RECORD, LEASE = "record.json", "lease"
CLOCK_WAS_WRONG = timedelta(days=1)
"""If a turn was started so far in the future, the clock of that time was wrong, and the turn delays no other."""


@dataclass(frozen=True, slots=True)
class ScheduleRecords:
    """The record of the schedule of one command of a job: each command has a scheduler of its own.

    Attributes:
        store: the output.
        job: name of the job.
        command: that each turn runs.
    """

    store: Store
    job: str
    command: str

    @property
    def folder(self) -> str:
        """The folder of the record and of the lease of its scheduler."""
        return f"{SCHEDULES}/{self.job}/{self.command}"

    def read(self) -> ScheduleRecord | None:
        """Return the stored record; None if there is none.

        Raises:
            FormatError: it is damaged, or of a newer version.
            StorageError: storage does not respond.
        """
        path = f"{self.folder}/{RECORD}"
        try:
            return ScheduleRecord.from_json(self.store.get(path), where=self.store.url(path))
        except FileNotFoundError:
            return None

    def begin(self, wanted: ScheduleRecord) -> ScheduleRecord:
        """Return the record to go on with: the stored turns, and `since` as stored unless the schedule is another one.

        Turns that were running when their scheduler ended are lost: the caller has the lease now. A damaged record is
        replaced: it holds nothing but what is shown.

        Args:
            wanted: the schedule as the command line says it, since now.

        Raises:
            NewerFormatError: the stored record is of a newer version.
            StorageError: storage does not respond.
        """
        try:
            stored = self.read()
        except NewerFormatError:
            raise
        except ValueError:
            stored = None
        if stored is None:
            return wanted
        turns = tuple(replace(turn, outcome="lost") if turn.outcome == "running" else turn for turn in stored.turns)
        since = stored.since if stored.has_schedule_of(wanted) else wanted.since
        return replace(wanted, since=since, turns=turns)

    def write(self, record: ScheduleRecord) -> None:
        """Store a record as a whole; a reader sees the former one or this one.

        Raises:
            StorageError: it could not be written.
        """
        self.store.put(f"{self.folder}/{RECORD}", record.to_bytes())


def read_status(records: ScheduleRecords, *, now: datetime) -> ScheduleStatus | None:
    """Return how a schedule stands, from storage alone; None if no scheduler ever ran.

    Args:
        records: of the schedule.
        now: the present, with a zone.

    Raises:
        FormatError: the record is damaged, or of a newer version.
        StorageError: storage does not respond.
    """
    record = records.read()
    if record is None:
        return None
    record = with_right_clock(record, now)
    lease = lease_state(records.store, f"{records.folder}/{LEASE}")
    scheduler = str(lease.owner) if lease is not None and lease.is_alive else None
    last = record.last
    running = last is not None and last.outcome == "running" and scheduler is not None
    if last is not None and last.outcome == "running" and not running:
        record = record.with_turn(replace(last, outcome="lost"))
    decision = decide(schedule_of(record), now=now, handled=record.handled)
    return ScheduleStatus(
        job=record.job,
        command=record.command,
        cron=record.cron,
        time_zone=record.time_zone,
        delay_s=record.delay_s,
        scheduler=scheduler,
        running=running,
        missed=None if decision.due is None or scheduler is not None else to_text(decision.due),
        next_start=to_text(decision.next_start),
        turns=record.turns,
    )


def read_schedules(store: Store, *, now: datetime) -> Iterator[ScheduleStatus]:
    """Yield the status of each schedule of an output that can be read; see `read_status`.

    Raises:
        StorageError: storage does not respond.
    """
    for records in _find_records(store):
        try:
            found = read_status(records, now=now)
        except (JobError, FewShotError, DamagedLeaseError):  # `fewshot schedule --status` says what is wrong.
            continue
        if found is not None:
            yield found


def _find_records(store: Store) -> Iterator[ScheduleRecords]:
    """Yield the place of each schedule of an output: of every command of every job."""
    for job in store.folders(SCHEDULES):
        for command in store.folders(job):
            yield ScheduleRecords(store, posixpath.basename(job), posixpath.basename(command))


def with_right_clock(record: ScheduleRecord, now: datetime) -> ScheduleRecord:
    """Return a record without turns of a clock that was far ahead; if there are any, the schedule begins now.

    Args:
        record: as it is stored.
        now: the present, with a zone.
    """
    return record.until(now + CLOCK_WAS_WRONG, begin=now.astimezone(UTC))


def schedule_of(record: ScheduleRecord) -> Schedule:
    """Return the schedule that a record names.

    Raises:
        JobError, UnknownNameError: its expression or its time zone is wrong.
    """
    return Schedule(
        cron=CronExpression.parse(record.cron),
        zone=find_zone(record.time_zone),
        delay=timedelta(seconds=record.delay_s),
    )


def to_text(time: datetime) -> str:
    """Return a time in UTC, as ISO 8601, in seconds."""
    return time.astimezone(UTC).isoformat(timespec="seconds")
