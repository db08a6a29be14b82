"""What a scheduler stores about the turns of a command of a job, and what `fewshot schedule` prints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import ClassVar, Literal, Self

from ray_jobs.results.json_format import JsonDocument, JsonValue

TurnOutcome = Literal["running", "done", "failed", "refused", "alarm", "interrupted", "killed", "lost"]
"""Under way; ended with exit code 0, 1, 2, 3 (done, and something waits for a person) or 130; ended by a signal or
another code; not seen to end, because its scheduler ended before it did."""
OUTCOME_OF_CODE: dict[int, TurnOutcome] = {0: "done", 1: "failed", 2: "refused", 3: "alarm", 130: "interrupted"}
MAX_TURNS = 50
"""Turns that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledTurn(JsonValue):
    """A turn that a scheduler started. All times are in UTC, as ISO 8601.

    Attributes:
        time: of the schedule, for which it ran.
        missed_since: first of the earlier times that had no run and that it made up; None if there were none.
        started: when it was started.
        ended: when it ended; None while it is running or if that was not seen.
        outcome: see `TurnOutcome`.
        exit_code: of its process; negative numbers are signals. None if it is not known.
        last_lines: what it wrote last.
    """

    time: str
    missed_since: str | None
    started: str
    ended: str | None = None
    outcome: TurnOutcome = "running"
    exit_code: int | None = None
    last_lines: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float | None:
        """Seconds that it took; None if its end is not known."""
        if self.ended is None:
            return None
        return (datetime.fromisoformat(self.ended) - datetime.fromisoformat(self.started)).total_seconds()

    @property
    def is_to_be_resumed(self) -> bool:
        """Whether it ended, or was lost, with its scheduler, so that its work is still to be done."""
        return self.outcome in ("interrupted", "lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRecord(JsonDocument):
    """A schedule as it is stored in the output, with the last turns.

    Attributes:
        job: name of the job.
        command: that each turn runs.
        cron: its times.
        time_zone: whose clocks count.
        delay_s: seconds from a time to the start of its turn.
        since: when the schedule began: earlier times need no turn. UTC, ISO 8601.
        turns: the last `MAX_TURNS`, in order.
    """

    format_version: ClassVar[int] = 1
    job: str
    command: str
    cron: str
    time_zone: str
    delay_s: int
    since: str
    turns: tuple[ScheduledTurn, ...] = ()

    @property
    def last(self) -> ScheduledTurn | None:
        """The last turn; None before the first."""
        return self.turns[-1] if self.turns else None

    @property
    def handled(self) -> datetime:
        """Time up to which nothing is to be done any more; of a turn to be resumed, the moment before its time."""
        since = datetime.fromisoformat(self.since)
        if self.last is None:
            return since
        time = datetime.fromisoformat(self.last.time)
        return max(since, time - timedelta(seconds=1) if self.last.is_to_be_resumed else time)

    def until(self, time: datetime, *, begin: datetime) -> Self:
        """Return the record as it is; without turns after a time, and since `begin`, if it goes beyond that time."""
        if self.handled <= time:
            return self
        turns = tuple(turn for turn in self.turns if datetime.fromisoformat(turn.time) <= time)
        return replace(self, since=begin.isoformat(timespec="seconds"), turns=turns)

    def has_schedule_of(self, other: ScheduleRecord) -> bool:
        """Return whether both run the same at the same times, but for the delay."""
        return (self.command, self.cron, self.time_zone) == (other.command, other.cron, other.time_zone)

    def with_turn(self, turn: ScheduledTurn) -> Self:
        """Return the record with a turn that began now, or with the end of the last one."""
        before = self.turns[:-1] if self.last is not None and self.last.outcome == "running" else self.turns
        return replace(self, turns=(*before, turn)[-MAX_TURNS:])


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleStatus(JsonDocument):
    """How a schedule stands.

    Attributes:
        job: name of the job.
        command: that each turn runs.
        cron: its times.
        time_zone: whose clocks count.
        delay_s: seconds from a time to the start of its turn.
        scheduler: the process that runs it; None if none shows signs of life.
        running: whether a turn is running now.
        missed: time of a turn that should have begun by now and has not, or that was interrupted, while no scheduler is
            running; None if there is none. UTC, ISO 8601.
        next_start: when the next turn starts, if a scheduler is running then. UTC, ISO 8601.
        turns: the last ones, in order.
    """

    format_version: ClassVar[int] = 1
    job: str
    command: str
    cron: str
    time_zone: str
    delay_s: int
    scheduler: str | None
    running: bool
    missed: str | None
    next_start: str
    turns: tuple[ScheduledTurn, ...]

    @property
    def last(self) -> ScheduledTurn | None:
        """The last turn; None before the first."""
        return self.turns[-1] if self.turns else None
