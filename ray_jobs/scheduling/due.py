"""What is due at a moment: a pure function of the schedule, the time and what was started before."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cluster.fingerprint import fingerprint
from ray_jobs.errors import JobError
from ray_jobs.scheduling.cron_expression import CronExpression

MAX_JITTER = timedelta(days=1)
_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1)}
_DURATION = re.compile(r"([0-9]{1,5})([smh])")
_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a command of a job runs.

    Attributes:
        cron: the times.
        zone: whose clocks count.
        delay: between a time and the start of its run, see `delay_of`.
    """

    cron: CronExpression
    zone: ZoneInfo
    delay: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do at a moment; times are in UTC.

    Attributes:
        due: the time whose run is to be started, the last one if several have passed; None if none has.
        missed_since: the first of the times before it that had no run, which this one makes up; None if there are none.
        next_start: when the next run starts, after the moment.
    """

    due: datetime | None
    missed_since: datetime | None
    next_start: datetime


def decide(schedule: Schedule, *, now: datetime, handled: datetime) -> Decision:
    """Return what to do now.

    However many times have passed without a run, one run makes up for all of them.

    Args:
        schedule: of a command of a job.
        now: the present, with a zone.
        handled: the time of the last run that was started or, before the first one, when the schedule began; earlier
            times need no run.
    """
    until = now - schedule.delay
    upcoming = next(schedule.cron.after(max(handled, until), schedule.zone))
    due = schedule.cron.latest(handled, until, schedule.zone) if handled < until else None
    first = next(schedule.cron.after(handled, schedule.zone)) if due is not None else None
    return Decision(due=due, missed_since=None if first == due else first, next_start=upcoming + schedule.delay)


def parse_jitter(text: str) -> timedelta:
    """Read a duration such as "90s", "5m" or "1h"; "0" is none.

    Raises:
        JobError: it is no duration, or longer than a day.
    """
    found = _DURATION.fullmatch(text)
    jitter = timedelta(0) if text == "0" else int(found[1]) * _UNITS[found[2]] if found else None
    if jitter is None or jitter > MAX_JITTER:
        raise JobError([f"--jitter: expected a number of seconds, minutes or hours up to 24h, e.g. 5m, got {text!r}"])
    return jitter


def delay_of(job: str, output: str, command: str, jitter: timedelta) -> timedelta:
    """Return the delay of a schedule: always the same, from 0 to the jitter, evenly spread over jobs and commands.

    Args:
        job: name of the job.
        output: its output.
        command: that each turn runs.
        jitter: the longest delay.
    """
    share = int(fingerprint([job, output, command])[:_DIGITS], 16) / 16**_DIGITS
    return timedelta(seconds=int(share * jitter.total_seconds()))
