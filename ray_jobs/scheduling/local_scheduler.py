"""A scheduler on this machine: it waits for the times of a cron expression and runs a turn at each of them.

Only one scheduler of each command of a job runs: it has the lease on the folder of its schedule. Turns themselves have
the lease of what they change, so that a turn that was started by hand, by the schedule of another command, or that
outlived its scheduler, is no danger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cluster.errors import LeaseLostError, StorageError
from ray_jobs.results.schedule_results import OUTCOME_OF_CODE, ScheduledTurn, ScheduleRecord, TurnOutcome
from ray_jobs.scheduling.due import Decision, decide
from ray_jobs.scheduling.schedule_records import ScheduleRecords, schedule_of, to_text, with_right_clock

if TYPE_CHECKING:
    from ray_jobs.scheduling.turn_process import TurnEnd

POLL_S = 20.0
"""Seconds after which the clock is looked at again: it may have been set, or the machine suspended."""


@dataclass
class LocalScheduler:
    """A scheduler that has the lease on its schedule.

    Attributes:
        records: where the turns are recorded.
        record: what is there, see `ScheduleRecords.begin`.
        check_lease: raises if this process has lost the lease.
        run_turn: runs one turn to its end.
        clock: returns the time, with a zone.
        wait: waits so many seconds.
        show: shows a line.
    """

    records: ScheduleRecords
    record: ScheduleRecord
    check_lease: Callable[[], None]
    run_turn: Callable[[], TurnEnd]
    clock: Callable[[], datetime]
    wait: Callable[[float], object]
    show: Callable[[str], object]
    handled: datetime = field(init=False)

    def __post_init__(self) -> None:
        """Look up what is to be done; a turn that was interrupted is due again."""
        self.handled = self.record.handled
        self.schedule = schedule_of(self.record)

    def run(self) -> None:
        """Run a turn at each time, until the process is interrupted.

        Raises:
            KeyboardInterrupt: the process was interrupted; the turn has ended.
            LeaseLostError: another scheduler took over.
        """
        self._write()
        shown = None
        while True:
            decision = self._decide()
            if decision.due is not None:
                self._take_turn(decision, decision.due)
            elif decision.next_start != shown:
                shown = decision.next_start
                self.show(f"next: {self.record.command} at {self._local(shown)}")
            else:
                self.wait(max(0.0, min(POLL_S, (decision.next_start - self.clock()).total_seconds())))

    def run_once(self) -> ScheduledTurn | None:
        """Run one turn if one is due.

        Returns:
            the turn; None if none was due.

        Raises:
            KeyboardInterrupt: the process was interrupted; the turn has ended.
            LeaseLostError: another scheduler took over.
        """
        self._write()
        decision = self._decide()
        if decision.due is None:
            self.show(f"nothing is due; next: {self.record.command} at {self._local(decision.next_start)}")
            return None
        self._take_turn(decision, decision.due)
        return self.record.last

    def _decide(self) -> Decision:
        now = self.clock()
        record = with_right_clock(self.record, now)
        if record != self.record:
            self.show(f"the clock was ahead: turns after {self._local(now)} are forgotten, and the schedule begins now")
            self.record, self.handled = record, record.handled
            self._write()
        return decide(self.schedule, now=now, handled=self.handled)

    def _take_turn(self, decision: Decision, due: datetime) -> None:
        since = decision.missed_since
        turn = ScheduledTurn(
            time=to_text(due),
            missed_since=None if since is None else to_text(since),
            started=to_text(self.clock()),
        )
        self.record = self.record.with_turn(turn)
        self._write()
        makes_up = "" if since is None else f"; it makes up for those since {self._local(since)}"
        self.show(f"{self.record.command}: the turn of {self._local(due)}{makes_up}")
        end = self.run_turn()
        self.handled = due
        outcome: TurnOutcome = "interrupted" if end.interrupted else OUTCOME_OF_CODE.get(end.exit_code, "killed")
        turn = replace(
            turn,
            ended=to_text(self.clock()),
            outcome=outcome,
            exit_code=end.exit_code,
            last_lines=end.last_lines,
        )
        self.record = self.record.with_turn(turn)
        self._write()
        self.show(f"{self.record.command}: {outcome} after {turn.duration_s:.0f} s, exit code {end.exit_code}")
        if end.interrupted:
            raise KeyboardInterrupt

    def _write(self) -> None:
        """Store the record. Storage that does not respond delays no turn: the next write stores all of it."""
        try:
            self.check_lease()
            self.records.write(self.record)
        except LeaseLostError:
            raise
        except StorageError as error:
            self.show(f"the record of the schedule could not be stored: {error}")

    def _local(self, time: datetime) -> str:
        return local_text(time, self.schedule.zone)


def local_text(time: datetime, zone: ZoneInfo) -> str:
    """Return a time by the clocks of a zone, for people."""
    return f"{time.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"
