"""A timer of systemd and the service that it starts, as text: a cron expression as OnCalendar=.

systemd leaves out a time that the clocks skip in spring; see docs/schedule.md.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from ray_jobs.scheduling.cron_expression import CronExpression

WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_ALL = {"minutes": 60, "hours": 24, "days": 31, "months": 12, "weekdays": 7}
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")


def calendar_events(cron: CronExpression, time_zone: str) -> list[str]:
    """Return the values of OnCalendar= that together mean the expression.

    There are two where cron takes a day by its day of month or by its day of week: systemd takes both together.

    Args:
        cron: the expression.
        time_zone: name in the IANA database.
    """
    months, days = _listed(cron.months, _ALL["months"]), _listed(cron.days, _ALL["days"])
    weekdays = "" if len(cron.weekdays) == _ALL["weekdays"] else ",".join(WEEKDAYS[day] for day in cron.weekdays) + " "
    time = f"{_listed(cron.hours, _ALL['hours'])}:{_listed(cron.minutes, _ALL['minutes'])}:00 {time_zone}"
    if not cron.either_day:
        return [f"{weekdays}*-{months}-{days} {time}"]
    if not weekdays:  # All of them, so every day.
        return [f"*-{months}-* {time}"]
    return [f"*-{months}-{days} {time}", f"{weekdays}*-{months}-* {time}"]


def units(
    cron: CronExpression,
    *,
    time_zone: str,
    job: str,
    command: str,
    words: Sequence[str],
    folder: Path,
    jitter_s: int,
) -> dict[str, str]:
    """Return the texts of both units by the names of their files.

    Args:
        cron: when it runs.
        time_zone: name in the IANA database.
        job: name of the job.
        command: of `fewshot`, for descriptions.
        words: the command line of a turn.
        folder: working directory, which relative paths of the job file start from.
        jitter_s: longest delay in seconds. systemd chooses it for each machine and unit.
    """
    name = f"fewshot-{command}-{re.sub(r'[^A-Za-z0-9_.-]', '-', job)}"
    about = f"fewshot {command} of the job {_escaped(job)}"
    service = f"""\
[Unit]
Description={about}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={_escaped(str(folder))}
ExecStart={" ".join(map(_quoted, words))}
TimeoutStartSec=infinity
# Ends a turn as Ctrl-C does; it is resumed next time.
KillSignal=SIGINT
KillMode=mixed
TimeoutStopSec=60
"""
    events = "\n".join(f"OnCalendar={event}" for event in calendar_events(cron, time_zone))
    jitter = f"RandomizedDelaySec={jitter_s}\nFixedRandomDelay=true\n" if jitter_s else ""
    timer = f"""\
[Unit]
Description={about}, {cron.text} {time_zone}

[Timer]
{events}
# A time at which the machine was off is made up, once.
Persistent=true
AccuracySec=1s
{jitter}
[Install]
WantedBy=timers.target
"""
    return {f"{name}.service": service, f"{name}.timer": timer}


def next_steps(folder: Path, names: Sequence[str]) -> list[str]:
    """Return the commands that start a timer whose units were written.

    Args:
        folder: absolute path of the units; systemd is told of one that it does not look into by itself.
        names: of the units, the timer last.
    """
    system = "systemctl" if folder.is_relative_to("/etc/systemd/system") else "systemctl --user"
    is_known = folder.parts[-2:] == ("systemd", "user") or system == "systemctl"
    files = " ".join(shlex.quote(str(folder / name)) for name in names)
    return [
        f"{system} daemon-reload" if is_known else f"{system} link {files}",
        f"{system} enable --now {names[-1]}",
    ]


def _listed(values: Sequence[int], number: int) -> str:
    """Return values as systemd lists them, neighbours as ranges; "*" if there are as many as the field has."""
    if len(values) == number:
        return "*"
    return ",".join(
        f"{first:02}" if first == last else f"{first:02},{last:02}" if last == first + 1 else f"{first:02}..{last:02}"
        for first, last in _runs(values)
    )


def _runs(values: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of each run of neighbours in ascending values."""
    first = last = values[0]
    for value in values[1:]:
        if value > last + 1:
            yield first, last
            first = value
        last = value
    yield first, last


def _escaped(text: str) -> str:
    """Return text without what systemd replaces, on one line."""
    return " ".join(text.replace("%", "%%").split())


def _quoted(word: str) -> str:
    """Return a word of a command line as systemd reads it back."""
    if _PLAIN.fullmatch(word):
        return word
    for special, escape in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$"), ("\n", "\\n"), ("\t", "\\t")):
        word = word.replace(special, escape)
    return f'"{word}"'
