"""Cron expressions: what is accepted, which times match, and what the clocks do in spring and autumn."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot.errors import UnknownNameError
from ray_jobs.errors import JobError
from ray_jobs.scheduling import cron_expression
from ray_jobs.scheduling.cron_expression import EXAMPLE, WORDS, CronExpression, find_zone

BERLIN = ZoneInfo("Europe/Berlin")
SPRING, AUTUMN = datetime(2027, 3, 28, tzinfo=BERLIN), datetime(2027, 10, 31, tzinfo=BERLIN)
"""Midnight before the clocks skip, and repeat, the hour from 2 to 3."""


def local_times(text: str, after: datetime, number: int, zone: ZoneInfo = BERLIN) -> list[str]:
    """The next times by the clocks of a zone."""
    found = itertools.islice(CronExpression.parse(text).after(after, zone), number)
    return [f"{time.astimezone(zone):%d %H:%M %Z}" for time in found]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has 0"),
        ("0 3 * *", "it has 4"),
        ("0 0 3 * * *", "it has 6"),
        ("61 3 * * *", "'61' is no minute (0-59)"),
        ("0 24 * * *", "'24' is no hour (0-23)"),
        ("0 3 0 * *", "'0' is no day of month (1-31)"),
        ("0 3 * 13 *", "'13' is no month (1-12)"),
        ("0 3 * * 8", "'8' is no day of week (0-7, Sunday is 0 and 7)"),
        ("0 3 30 2 *", "'30' is no day of month (1-31) of these months"),
        ("5/15 * * * *", "'5/15' is no minute"),
        (
            "5-5/15 * * * *",
            "'5-5/15' is no minute (0-59) that cron and Kubernetes read alike: a step in a range of one",
        ),
        ("0 3 * * MON-1/2", "'MON-1/2' is no day of week (0-7, Sunday is 0 and 7) that cron and Kubernetes read alike"),
        ("5-05/2 * * * *", "'5-05/2' is no minute (0-59) that cron and Kubernetes read alike"),
        ("0 3 5,* * 1", "'5,*' is no day of month (1-31) that cron and Kubernetes read alike: * in a list"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("30-10 * * * *", "'30-10' is no minute"),
        ("1,,2 * * * *", "'1,,2' is no minute"),
        ("-1 * * * *", "'-1' is no minute"),
        ("0 3 L * *", "'L' is no day of month"),
        ("0 3 LW * *", "'LW' is no day of month"),
        ("0 3 ? * *", "'?' is no day of month"),
        ("0 3 * * 5L", "'5L' is no day of week"),
        ("0 3 * * MON#1", "'MON#1' is no day of week"),
        ("0 3 * * MOO", "'MOO' is no day of week"),
        ("0 3 */2 * 1", "'*/2' and '1' restrict the day twice"),
        ("0 3 1 * */2", "'1' and '*/2' restrict the day twice"),
        ("CRON_TZ=UTC 0 3 * * *", "give the time zone with --time-zone"),
        ("@reboot", "known words are @hourly, @daily"),
        ("@every 1h", "known words are @hourly, @daily"),
        ("daily", "it has 1"),
    ],
)
def test_a_wrong_expression_is_refused_with_an_example(text, why):
    with pytest.raises(JobError) as caught:
        CronExpression.parse(text)
    (problem,) = caught.value.problems
    assert problem.startswith(f"--cron: expected {EXAMPLE}, got {text!r}: {why}")


@pytest.mark.parametrize("word", WORDS)
def test_a_word_stands_for_five_fields(word):
    assert CronExpression.parse(f" {word.upper()} ") == CronExpression.parse(WORDS[word])
    assert CronExpression.parse(word).text == WORDS[word]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 3 * * *", ["01 03:00", "02 03:00", "03 03:00"]),
        ("*/20 3 * * *", ["01 03:00", "01 03:20", "01 03:40"]),
        ("0 3 * * 0", ["06 03:00", "13 03:00", "20 03:00"]),
        ("0 3 * * 7", ["06 03:00", "13 03:00", "20 03:00"]),
        ("0 3 * * sat-7", ["05 03:00", "06 03:00", "12 03:00"]),
        ("0 3 * * 6-7", ["05 03:00", "06 03:00", "12 03:00"]),
        ("0 3 * * MON-FRI", ["01 03:00", "02 03:00", "03 03:00"]),
        ("0 3 15 * *", ["15 03:00", "15 03:00", "15 03:00"]),
        ("0 3 13 * 5", ["04 03:00", "11 03:00", "13 03:00"]),
        ("0 3 1-31/10 * *", ["01 03:00", "11 03:00", "21 03:00"]),
        ("5,35 3-4 * DEC *", ["01 03:05", "01 03:35", "01 04:05"]),
    ],
)
def test_times_match_as_in_cron(text, expected):
    december = datetime(2026, 12, 1, tzinfo=UTC)
    found = local_times(text, december, 3, ZoneInfo("UTC"))
    assert [each.removesuffix(" UTC") for each in found] == expected


@pytest.mark.parametrize(
    ("text", "either"), [("0 3 13 * 5", True), ("0 3 1-31 * 5", True), ("0 3 * * 5", False), ("0 3 13 * *", False)]
)
def test_either_field_of_the_day_is_enough_if_both_restrict_it(text, either):
    assert CronExpression.parse(text).either_day is either


def test_a_time_that_matches_is_not_after_itself():
    assert local_times("0 3 * * *", datetime(2026, 12, 1, 3, tzinfo=UTC), 1, ZoneInfo("UTC")) == ["02 03:00 UTC"]
    before = datetime(2026, 12, 1, 2, 59, 59, 999_999, tzinfo=UTC)
    assert local_times("0 3 * * *", before, 1, ZoneInfo("UTC")) == ["01 03:00 UTC"]


def test_a_skipped_time_comes_at_the_first_one_that_exists():
    assert local_times("30 2 * * *", SPRING, 2) == ["28 03:00 CEST", "29 02:30 CEST"]


def test_skipped_times_that_coincide_come_once():
    assert local_times("0,30 2-3 * * *", SPRING, 3) == ["28 03:00 CEST", "28 03:30 CEST", "29 02:00 CEST"]


def test_a_repeated_time_comes_once():
    assert local_times("30 2 * * *", AUTUMN, 2) == ["31 02:30 CEST", "01 02:30 CET"]


def test_a_repeated_time_does_not_come_again_in_the_second_hour():
    second = AUTUMN.replace(hour=2, minute=10, fold=1)
    assert local_times("30 2 * * *", second, 1) == ["01 02:30 CET"]


def test_an_expression_of_every_hour_follows_the_clock():
    assert local_times("30 * * * *", SPRING, 3) == ["28 00:30 CET", "28 01:30 CET", "28 03:30 CEST"]
    assert local_times("30 * * * *", AUTUMN.replace(hour=2), 3) == ["31 02:30 CEST", "31 02:30 CET", "31 03:30 CET"]


def test_midnight_that_is_skipped_comes_an_hour_later():
    havana = ZoneInfo("America/Havana")
    found = local_times("0 0 * * *", datetime(2026, 3, 7, 12, tzinfo=havana), 2, havana)
    assert found == ["08 01:00 CDT", "09 00:00 CDT"]


EXPRESSIONS = ["0 3 * * *", "30 2 * * *", "*/7 * * * *", "30 * * * *", "0,30 2-3 * * *", "0 0 1 * 1", "0 0 29 2 *"]
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2029, 1, 1))


@given(
    text=st.sampled_from(EXPRESSIONS),
    moment=MOMENTS,
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana"]),
)
@settings(max_examples=200, deadline=None)
def test_times_come_in_order_and_each_once(text, moment, zone):
    found = list(itertools.islice(CronExpression.parse(text).after(moment.replace(tzinfo=UTC), ZoneInfo(zone)), 8))
    assert found == sorted(set(found))
    assert found[0] > moment.replace(tzinfo=UTC)
    assert all(time.tzinfo is UTC and time.second == 0 for time in found)


@given(
    text=st.sampled_from(EXPRESSIONS[:-1]),
    moment=MOMENTS,
    minutes=st.integers(1, 60 * 24 * 40),
)
@settings(max_examples=100, deadline=None)
def test_the_latest_time_is_the_last_of_all_in_a_span(text, moment, minutes):
    cron, after = CronExpression.parse(text), moment.replace(tzinfo=UTC)
    until = after + timedelta(minutes=minutes)
    all_times = list(itertools.takewhile(lambda time: time <= until, cron.after(after, BERLIN)))
    assert cron.latest(after, until, BERLIN) == (all_times[-1] if all_times else None)


def test_the_latest_time_of_ten_years_is_found_near_the_end():
    cron, looked_at = CronExpression.parse("* * * * *"), []
    until = datetime(2036, 12, 1, 12, tzinfo=UTC)

    class Counting(CronExpression):
        def after(self, time, zone):
            for match in super().after(time, zone):
                looked_at.append(match)
                yield match

    counting = Counting(**{name: getattr(cron, name) for name in CronExpression.__dataclass_fields__})
    assert counting.latest(until - timedelta(days=3650), until, ZoneInfo("UTC")) == until
    assert len(looked_at) < 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 3 * * *", "0 3 * * *"),
        ("0 3 * * 7", "0 3 * * 0"),
        ("0 3 * * 5-7", "0 3 * * 0,5,6"),
        ("0 3 * * 1,7", "0 3 * * 0,1"),
        ("0 3 * * 0-6/3", "0 3 * * 0-6/3"),
        ("*/7 3 * * mon-fri", "*/7 3 * * mon-fri"),
        ("0 3 * * 1-5/7", "0 3 * * 1-5/7"),
        ("@weekly", "0 0 * * 0"),
    ],
)
def test_kubernetes_gets_sunday_as_0(text, expected):
    made = CronExpression.parse(text)
    assert made.kubernetes == expected
    assert CronExpression.parse(expected).weekdays == made.weekdays


def test_an_unknown_zone_is_refused_with_the_nearest_one():
    with pytest.raises(UnknownNameError, match=r"unknown time zone 'Europe/Berln'\. Did you mean 'Europe/Berlin'\?"):
        find_zone("Europe/Berln")
    for name in ("localtime", "../etc/passwd", ""):
        with pytest.raises(UnknownNameError):
            find_zone(name)


def test_a_machine_without_zones_needs_a_package(monkeypatch):
    monkeypatch.setattr(cron_expression, "available_timezones", set)
    with pytest.raises(JobError, match="install its package tzdata"):
        find_zone("UTC")
