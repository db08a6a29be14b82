"""Tables of `schedule`."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from rich.table import Table

from ray_jobs.console.progress import Reporter
from ray_jobs.console.sanitize import sanitized
from ray_jobs.results.schedule_results import ScheduledTurn, ScheduleStatus

SHOWN_TURNS = 10
"""Turns that the table shows."""


def show_schedule(reporter: Reporter, status: ScheduleStatus) -> None:
    """Show the last turns of a schedule, what the last one wrote if it was not done, and what comes next."""
    zone = ZoneInfo(status.time_zone)
    title = sanitized(f"{status.command} of {status.job}: {status.cron} {status.time_zone}")
    table = Table("time", "started", "took", "outcome", "makes up since", title=title, title_justify="left")
    for turn in status.turns[-SHOWN_TURNS:]:
        table.add_row(
            _text(turn.time, zone),
            _text(turn.started, zone),
            "–" if turn.duration_s is None else f"{turn.duration_s:.0f} s",
            turn.outcome if turn.exit_code is None else f"{turn.outcome} ({turn.exit_code})",
            "" if turn.missed_since is None else _text(turn.missed_since, zone),
        )
    if status.turns:
        reporter.console.print(table)
    else:
        reporter.say(f"{title}: no turn yet")
    for line in _last_lines(status.last):
        reporter.say(f"  {line}")
    for line in summary(status):
        reporter.say(line)


def summary(status: ScheduleStatus) -> list[str]:
    """Return in lines how a schedule stands."""
    zone = ZoneInfo(status.time_zone)
    next_start = f"next: {_text(status.next_start, zone)} ({status.time_zone})"
    if status.scheduler is None:
        missed = "" if status.missed is None else f"; the turn of {_text(status.missed, zone)} is still to be done"
        times = f'--cron "{sanitized(status.cron)}" --time-zone {sanitized(status.time_zone)}'
        again = f"fewshot schedule JOB.toml {times} --run {sanitized(status.command)} --local"
        return [f"no scheduler is running{missed}. To go on: {again} (or --once, for what is due)", next_start]
    last = status.last
    since = "" if last is None else f" since {_text(last.started, zone)}"
    doing = f"a turn is running{since}" if status.running else "waiting"
    return [f"{doing}; scheduler: {sanitized(status.scheduler)}", next_start]


def _last_lines(turn: ScheduledTurn | None) -> tuple[str, ...]:
    """Return what a turn wrote last, unless it was done or is running."""
    return () if turn is None or turn.outcome in ("done", "running") else tuple(map(sanitized, turn.last_lines))


def _text(time: str, zone: ZoneInfo) -> str:
    return f"{datetime.fromisoformat(time).astimezone(zone):%Y-%m-%d %H:%M:%S}"
