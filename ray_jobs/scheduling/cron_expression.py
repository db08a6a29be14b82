"""Cron expressions as all schedulers here read them alike: cron itself, Kubernetes, systemd and the local one.

Extensions that only some of them have (seconds, `L`, `W`, `#`, `?`, `@reboot`) are refused, and so is the one
combination that they read differently: a step such as `*/2` in one field of the day beside a restricted other one.
"""

from __future__ import annotations

import re
from calendar import day_abbr, month_abbr
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from fewshot.errors import DataError, UnknownNameError
from ray_jobs.errors import JobError

WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS = ("minute (0-59)", "hour (0-23)", "day of month (1-31)", "month (1-12)", "day of week (0-7, Sunday is 0 and 7)")
EXAMPLE = 'five fields (minute, hour, day of month, month, day of week) such as "0 3 * * *" (daily at 03:00)'
_VALUE = "([0-9]{1,2}|[A-Za-z]{3})"
_ITEM = re.compile(rf"(\*|{_VALUE}-{_VALUE})(/[1-9][0-9]*)?|{_VALUE}")
"""A list's item. The form 5/15 is none: schedulers differ in where it ends."""
_NAMES = {name.lower(): number for names in (month_abbr, ("Sun", *day_abbr)) for number, name in enumerate(names)}
_SUNDAY_AS_7 = re.compile("(^|[,-])7")
_ALL_DAYS, _ALL_WEEKDAYS = 31, 7
_FIRST_STEP = timedelta(hours=1)
_WIDER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CronExpression:
    """A cron expression.

    Attributes:
        text: its five fields.
        minutes: that match, in ascending order, as in all of the following.
        hours: that match.
        days: of the month.
        months: that match.
        weekdays: that match; 0 is Sunday.
        either_day: whether a day has to match `days` or `weekdays`, not both: so if neither field begins with `*`.
    """

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    either_day: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an expression of five fields, or a word such as "@daily".

        Raises:
            JobError: it is none, or never matches; with what is expected.
        """
        fields = _fields(text)
        try:
            parsed = CronSim(" ".join(fields), datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise _refusal(text, _explanation(str(error), fields)) from error
        days = tuple(sorted(parsed.days))
        weekdays = tuple(sorted({int(day) % 7 for day in parsed.weekdays if isinstance(day, int)}))
        if parsed.day_and and len(days) < _ALL_DAYS and len(weekdays) < _ALL_WEEKDAYS:
            raise _refusal(
                text,
                f"{fields[2]!r} and {fields[4]!r} restrict the day twice, and cron and Kubernetes read a step beside "
                "another restriction differently; restrict the day of month or the day of week, or list the days",
            )
        return cls(
            text=" ".join(fields),
            minutes=tuple(sorted(parsed.minutes)),
            hours=tuple(sorted(parsed.hours)),
            days=days,
            months=tuple(sorted(parsed.months)),
            weekdays=weekdays,
            either_day=not parsed.day_and,
        )

    @property
    def kubernetes(self) -> str:
        """The expression with Sunday as 0: Kubernetes knows no day 7."""
        *others, weekday = self.text.split()
        return " ".join([*others, ",".join(map(str, self.weekdays)) if _SUNDAY_AS_7.search(weekday) else weekday])

    def after(self, time: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        """Yield the times that match after a time, in order, in UTC, as cron does.

        A time that the clocks skip in spring is replaced by the first one that exists, and of a time that they repeat
        in autumn the first one counts. Minutes or hours that begin with `*` follow the clock instead.

        Args:
            time: with its zone.
            zone: whose clocks count.
        """
        begin = time.astimezone(UTC)
        for match in CronSim(self.text, time.astimezone(zone)):
            if (found := match.astimezone(UTC)) > begin:  # In the second of two equal hours, cronsim begins anew.
                yield found

    def latest(self, after: datetime, until: datetime, zone: ZoneInfo) -> datetime | None:
        """Return the last time that matches in a span, in UTC; None if none does.

        It looks back in steps that become wider: a span of a year has half a million minutes.

        Args:
            after: the span begins after it.
            until: the span ends with it.
            zone: whose clocks count.
        """
        step = _FIRST_STEP
        while True:
            begin = max(after, until - step)
            found = None
            for match in self.after(begin, zone):
                if match > until:
                    break
                found = match
            if found is not None or begin == after:
                return found
            step *= _WIDER


def find_zone(name: str) -> ZoneInfo:
    """Return a time zone by its name in the IANA database, such as "Europe/Berlin".

    Raises:
        UnknownNameError: there is none of this name; with the nearest ones.
        DataError: it is an abbreviation such as "CEST", or an offset.
        JobError: this machine has no database.
    """
    known = available_timezones() - {"localtime"}
    if not known:
        raise JobError(["this machine has no time zones: install its package tzdata, or pip install tzdata"])
    if name not in known and name.isupper() and "/" not in name:
        expected = "expected a name of the IANA database, mostly a region and a city, such as Europe/Berlin"
        raise DataError(
            f"{name!r} is no time zone: {expected}; abbreviations and offsets do not say when clocks change"
        )
    if name not in known:
        raise UnknownNameError("time zone", name, known)
    return ZoneInfo(name)


def _fields(text: str) -> list[str]:
    """Return the fields of an expression, after checks of what only some schedulers know."""
    word = text.strip()
    if word.startswith("@"):
        if word.lower() not in WORDS:
            raise _refusal(text, f"known words are {', '.join(WORDS)}")
        word = WORDS[word.lower()]
    fields = word.split()
    if fields and "TZ=" in fields[0]:
        raise _refusal(text, "give the time zone with --time-zone")
    if len(fields) != len(FIELDS):
        raise _refusal(text, f"it has {len(fields)}")
    for name, value in zip(FIELDS, fields, strict=True):
        if not all(_ITEM.fullmatch(item) for item in value.split(",")):
            raise _refusal(text, f"{value!r} is no {name}; allowed are numbers, ranges (1-5), steps (*/15) and lists")
        if unclear := _unclear(value):
            raise _refusal(text, f"{value!r} is no {name} that cron and Kubernetes read alike: {unclear}")
    return fields


def _unclear(field: str) -> str:
    """Return what schedulers read differently in a field; empty where there is nothing."""
    items = field.split(",")
    if len(items) > 1 and any(item.startswith("*") for item in items):
        return "* in a list is either one of its values or all of them"
    steps = (item.partition("/")[0].partition("-") for item in items if "-" in item and "/" in item)
    is_one = any(_number(first) == _number(last) for first, _, last in steps)
    return "a step in a range of one value may end there or not" if is_one else ""


def _number(value: str) -> int:
    """Return the number of a value or of a name of a month or a day."""
    return int(value) if value.isdigit() else _NAMES.get(value.lower(), -1)


def _explanation(message: str, fields: list[str]) -> str:
    """Return in words what cronsim calls "Bad day-of-month": a value out of range, or a day that no month has."""
    field = message.removeprefix("Bad ").replace("-", " ")
    for name, value in zip(FIELDS, fields, strict=True):
        if name.partition(" (")[0] == field:
            return f"{value!r} is no {name}{' of these months' if field == 'day of month' else ''}"
    return message


def _refusal(text: str, why: str) -> JobError:
    return JobError([f"--cron: expected {EXAMPLE}, got {text!r}: {why}"])
