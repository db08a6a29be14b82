"""A job file and the options of `fewshot schedule`, checked; the scheduler of this machine, and units of systemd."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from zoneinfo import ZoneInfo

from cluster import Store
from cluster.storage.lease import acquire_lease
from fewshot.errors import FewShotError
from ray_jobs.errors import JobError
from ray_jobs.job_file.command_needs import NEEDS, SCHEDULED_LIKE, ScheduledCommand
from ray_jobs.job_file.reading import read_job, stop_if_any
from ray_jobs.job_file.sections import Job
from ray_jobs.preflight import check, scheduled_command_problems
from ray_jobs.results.schedule_results import ScheduledTurn, ScheduleRecord
from ray_jobs.scheduling.cron_expression import EXAMPLE, CronExpression, find_zone
from ray_jobs.scheduling.due import delay_of, parse_jitter
from ray_jobs.scheduling.local_scheduler import LocalScheduler
from ray_jobs.scheduling.schedule_records import LEASE, ScheduleRecords, to_text
from ray_jobs.scheduling.systemd_units import units
from ray_jobs.scheduling.turn_process import TurnEnd, command_line, run_turn

if TYPE_CHECKING:
    from ray_jobs.console.progress import Reporter

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTimes:
    """The checked options of a schedule.

    Attributes:
        cron: the times.
        zone: whose clocks count.
        jitter: longest delay of a start.
    """

    cron: CronExpression
    zone: ZoneInfo
    jitter: timedelta


def read_times(cron: str | None, time_zone: str, jitter: str) -> ScheduleTimes:
    """Read the options of a schedule.

    Args:
        cron: the expression; None if none was given.
        time_zone: name in the IANA database.
        jitter: duration such as "5m".

    Raises:
        JobError: with everything that is wrong.
    """
    problems: list[str] = []
    expression = _read(lambda: CronExpression.parse(_given(cron)), problems)
    zone = _read(lambda: find_zone(time_zone), problems)
    longest = _read(lambda: parse_jitter(jitter), problems)
    stop_if_any(problems)
    assert expression is not None
    assert zone is not None
    assert longest is not None
    return ScheduleTimes(cron=expression, zone=zone, jitter=longest)


def checked_job(path: Path, overrides: Sequence[str], command: ScheduledCommand) -> Job:
    """Read a job file and check all that a command would refuse: better now than at three in the morning.

    Raises:
        JobError: with every problem.
    """
    job, problems = read_job(path, overrides, needs=NEEDS[SCHEDULED_LIKE])
    stop_if_any([*problems, *check(job, NEEDS[SCHEDULED_LIKE]), *scheduled_command_problems(job, command)])
    return job


def open_records(job: Job, command: ScheduledCommand) -> ScheduleRecords:
    """Return where the turns of a command of a job are recorded.

    Raises:
        JobError: the section [storage] is wrong.
    """
    try:
        storage = job.storage.resolve()
    except (OSError, ValueError) as error:
        raise JobError([f"[storage]: {error}"]) from error
    return ScheduleRecords(Store(job.job.output, storage=storage), job.job.name, command)


def run_locally(
    job: Job,
    path: Path,
    overrides: Sequence[str],
    times: ScheduleTimes,
    reporter: Reporter,
    *,
    command: ScheduledCommand,
    once: bool,
    turn: Callable[[], TurnEnd] | None = None,
) -> ScheduledTurn | None:
    """Run a job's turns on this machine, until the process is interrupted or, with `once`, one if it is due.

    Args:
        job: as `checked_job` returned it.
        path: the job file.
        overrides: "section.key=value".
        times: when.
        reporter: shows what is done.
        command: that each turn runs.
        once: whether to end then.
        turn: runs a turn; None runs the command in a process of its own.

    Returns:
        with `once` the turn, or None if none was due.

    Raises:
        JobError: the section [storage] is wrong.
        LeaseHeldError: another scheduler of this command of the job is running.
        LeaseLostError: another one took over, because this machine was suspended.
        KeyboardInterrupt: the process was interrupted; a turn that ran has been ended, and is resumed next time.
    """
    records = open_records(job, command)
    words = command_line(command, path, overrides)
    wanted = ScheduleRecord(
        job=job.job.name,
        command=command,
        cron=times.cron.text,
        time_zone=times.zone.key,
        delay_s=int(delay_of(job.job.name, job.job.output, command, times.jitter).total_seconds()),
        since=to_text(_now()),
    )
    with acquire_lease(
        records.store,
        f"{records.folder}/{LEASE}",
        term_s=job.storage.lease_s,
        on_wait=lambda owner: reporter.say(
            f"looking whether {owner}, the scheduler of {command} for this job, is still running"
        ),
    ) as lease:
        scheduler = LocalScheduler(
            records=records,
            record=records.begin(wanted),
            check_lease=lease.check,
            run_turn=turn or (lambda: run_turn(words, reporter.say)),
            clock=_now,
            wait=time.sleep,
            show=reporter.say,
        )
        if once:
            return scheduler.run_once()
        scheduler.run()
    return None


def systemd_units(
    path: Path, overrides: Sequence[str], times: ScheduleTimes, *, command: ScheduledCommand
) -> dict[str, str]:
    """Return a service and a timer by the names of their files, after the checks of `checked_job`.

    Args:
        path: the job file.
        overrides: "section.key=value".
        times: when.
        command: that each turn runs.

    Raises:
        JobError: the job file is wrong, or the command would refuse it.
    """
    job = checked_job(path, overrides, command)
    return units(
        times.cron,
        time_zone=times.zone.key,
        job=job.job.name,
        command=command,
        words=command_line(command, path.absolute(), overrides),
        folder=Path.cwd(),
        jitter_s=int(times.jitter.total_seconds()),
    )


def _read(parse: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return parse()
    except JobError as error:
        problems += error.problems
    except FewShotError as error:
        problems.append(f"--time-zone: {error}")
    return None


def _given(cron: str | None) -> str:
    if cron is None:
        raise JobError([f"--cron: missing; give {EXAMPLE}"])
    return cron


def _now() -> datetime:
    return datetime.now(UTC)
