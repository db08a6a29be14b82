"""A scheduler with a clock that only waiting and turns move: no test sleeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cluster import Store
from ray_jobs.results.schedule_results import ScheduleRecord
from ray_jobs.scheduling.local_scheduler import LocalScheduler
from ray_jobs.scheduling.schedule_records import ScheduleRecords, to_text
from ray_jobs.scheduling.turn_process import TurnEnd

DONE = TurnEnd(exit_code=0, last_lines=("in production: version 1",))
START = datetime(2026, 12, 1, 1, 0, 0, tzinfo=UTC)


class AtTheEndError(Exception):
    """The time that a test simulates is over."""


@dataclass
class FakeTime:
    """Time and turns of one command of a job.

    Attributes:
        folder: the output.
        now: the present.
        until: when the test ends.
        turn_s: seconds that each turn takes.
        ends: how turns end, in order; the last one repeats.
        started: when turns began, by the clock.
        said: lines that were shown.
        checks: called before each write, as the lease is checked.
        command: that turns run.
    """

    folder: Path
    now: datetime = START
    until: datetime = START + timedelta(days=1)
    turn_s: float = 60
    ends: tuple[TurnEnd, ...] = (DONE,)
    started: list[datetime] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    checks: Callable[[], None] = lambda: None
    command: str = "retrain"

    @property
    def records(self) -> ScheduleRecords:
        return ScheduleRecords(Store(str(self.folder)), "groceries", self.command)

    def scheduler(self, cron: str = "0 3 * * *", *, zone: str = "UTC", delay_s: int = 0) -> LocalScheduler:
        """A scheduler that begins now."""
        wanted = ScheduleRecord(
            job="groceries", command=self.command, cron=cron, time_zone=zone, delay_s=delay_s, since=to_text(self.now)
        )
        return LocalScheduler(
            records=self.records,
            record=self.records.begin(wanted),
            check_lease=lambda: self.checks(),
            run_turn=self.turn,
            clock=lambda: self.now,
            wait=self.wait,
            show=self.said.append,
        )

    def wait(self, seconds: float) -> None:
        assert 0 <= seconds <= 60
        self.now += timedelta(seconds=max(seconds, 0.001))
        if self.now >= self.until:
            raise AtTheEndError

    def turn(self) -> TurnEnd:
        if self.now >= self.until:
            raise AtTheEndError
        self.started.append(self.now)
        self.now += timedelta(seconds=self.turn_s)
        return self.ends[min(len(self.started), len(self.ends)) - 1]

    def run(self, cron: str = "0 3 * * *", **options) -> None:
        """Run a scheduler until the test ends."""
        try:
            self.scheduler(cron, **options).run()
        except AtTheEndError:
            return
        raise AssertionError("a scheduler runs until it is interrupted")
