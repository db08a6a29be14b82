"""What is due: a pure function of the schedule, the time and what was started before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_jobs.errors import JobError
from ray_jobs.scheduling.cron_expression import CronExpression
from ray_jobs.scheduling.due import Decision, Schedule, decide, delay_of, parse_jitter

BERLIN = ZoneInfo("Europe/Berlin")
HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)


def schedule(text: str = "0 3 * * *", zone: str = "UTC", delay: timedelta = timedelta(0)) -> Schedule:
    return Schedule(cron=CronExpression.parse(text), zone=ZoneInfo(zone), delay=delay)


def utc(day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
    """A moment of December 2026."""
    return datetime(2026, 12, day, hour, minute, second, tzinfo=UTC)


def test_nothing_is_due_before_the_first_time():
    decision = decide(schedule(), now=utc(1, 2, 59, 59), handled=utc(1, 1))
    assert decision == Decision(due=None, missed_since=None, next_start=utc(1, 3))


def test_a_time_is_due_at_once_and_until_it_was_started():
    for now in (utc(1, 3), utc(1, 3, 0, 1), utc(1, 9)):
        decision = decide(schedule(), now=now, handled=utc(1, 1))
        assert decision == Decision(due=utc(1, 3), missed_since=None, next_start=utc(2, 3))
    decision = decide(schedule(), now=utc(1, 9), handled=utc(1, 3))
    assert decision == Decision(due=None, missed_since=None, next_start=utc(2, 3))


def test_times_that_were_missed_are_made_up_by_one_run():
    decision = decide(schedule(), now=utc(20, 12), handled=utc(1, 3))
    assert decision == Decision(due=utc(20, 3), missed_since=utc(2, 3), next_start=utc(21, 3))
    assert decide(schedule(), now=utc(20, 12), handled=utc(20, 3)).due is None


def test_times_of_a_long_pause_are_found_in_a_moment():
    decision = decide(schedule("* * * * *"), now=utc(20, 12, 0, 30), handled=utc(1) - timedelta(days=3650))
    assert (decision.due, decision.next_start) == (utc(20, 12), utc(20, 12, 1))
    assert decision.missed_since == utc(1) - timedelta(days=3650) + MINUTE


def test_a_delay_moves_every_start():
    delayed = schedule(delay=4 * MINUTE)
    early = decide(delayed, now=utc(1, 3, 3, 59), handled=utc(1, 1))
    assert early == Decision(due=None, missed_since=None, next_start=utc(1, 3, 4))
    late = decide(delayed, now=utc(1, 3, 4), handled=utc(1, 1))
    assert late == Decision(due=utc(1, 3), missed_since=None, next_start=utc(2, 3, 4))


def test_a_delay_longer_than_the_interval_loses_no_time():
    delayed, handled, started = schedule("* * * * *", delay=3 * MINUTE), utc(1, 1), []
    for second in range(0, 600, 10):
        decision = decide(delayed, now=utc(1, 1) + second * SECOND, handled=handled)
        if decision.due is not None:
            started.append(decision.due)
            handled = decision.due
    assert started == [utc(1, 1, minute) for minute in range(1, 7)]


def test_a_clock_that_was_set_back_starts_no_run_again():
    decision = decide(schedule(), now=utc(1, 2, 59, 58), handled=utc(1, 3))
    assert decision == Decision(due=None, missed_since=None, next_start=utc(2, 3))


NIGHTS = {"spring": datetime(2027, 3, 28, tzinfo=BERLIN), "autumn": datetime(2027, 10, 31, tzinfo=BERLIN)}


@pytest.mark.parametrize("night", NIGHTS)
@pytest.mark.parametrize("step", [MINUTE, 7 * MINUTE, 20 * SECOND])
def test_a_run_at_half_past_two_runs_once_on_nights_that_change_the_clocks(night, step):
    nightly, started = schedule("30 2 * * *", "Europe/Berlin"), []
    now = handled = NIGHTS[night].astimezone(UTC)
    while now < NIGHTS[night].astimezone(UTC) + 20 * HOUR:
        decision = decide(nightly, now=now, handled=handled)
        if decision.due is not None:
            started.append(decision.due.astimezone(BERLIN).strftime("%H:%M %Z"))
            handled = decision.due
        now += step
    assert started == [{"spring": "03:00 CEST", "autumn": "02:30 CEST"}[night]]


@pytest.mark.parametrize("pause_from", [0, 1, 2, 3])
@pytest.mark.parametrize("night", NIGHTS)
def test_a_pause_over_such_a_night_is_made_up_once(night, pause_from):
    nightly = schedule("30 2 * * *", "Europe/Berlin")
    asleep = NIGHTS[night].astimezone(UTC) - HOUR + pause_from * 15 * MINUTE
    decision = decide(nightly, now=asleep + 6 * HOUR, handled=asleep)
    assert decision.due is not None
    assert decision.missed_since is None
    assert decide(nightly, now=asleep + 6 * HOUR, handled=decision.due).due is None


@given(
    text=st.sampled_from(["0 3 * * *", "30 2 * * *", "*/5 * * * *", "0 2,3 * * *", "15 * * * *"]),
    start=st.datetimes(datetime(2027, 3, 20), datetime(2027, 11, 10)),
    pauses=st.lists(st.integers(1, 3000), min_size=1, max_size=12),
    delay=st.integers(0, 900),
)
@settings(max_examples=150, deadline=None)
def test_however_often_it_looks_each_time_is_run_or_made_up_once(text, start, pauses, delay):
    timed = schedule(text, "Europe/Berlin", delay * SECOND)
    now = handled = begun = start.replace(tzinfo=UTC)
    covered: list[datetime] = []
    for pause in pauses:
        now += pause * MINUTE
        decision = decide(timed, now=now, handled=handled)
        assert decision.next_start > now
        if decision.due is None:
            assert decision.missed_since is None
            continue
        assert handled < decision.due <= now - timed.delay
        span = list(takewhile(timed, handled, decision.due))
        assert (decision.missed_since or decision.due) == span[0]
        covered += span
        handled = decision.due
    assert covered == list(takewhile(timed, begun, handled))
    assert decide(timed, now=now, handled=handled).due is None


def takewhile(timed: Schedule, after: datetime, until: datetime):
    """All times of a schedule in a span."""
    for time in timed.cron.after(after, timed.zone):
        if time > until:
            return
        yield time


@pytest.mark.parametrize(
    ("text", "expected"), [("0", 0), ("90s", 90), ("5m", 300), ("1h", 3600), ("24h", 86400), ("0m", 0)]
)
def test_a_jitter_is_a_duration(text, expected):
    assert parse_jitter(text) == timedelta(seconds=expected)


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "1.5h", "25h", "5d", "99999999h"])
def test_a_wrong_jitter_is_refused(text):
    with pytest.raises(JobError, match="--jitter: expected a number of seconds, minutes or hours up to 24h"):
        parse_jitter(text)


def test_delays_are_the_same_each_time_and_spread_over_jobs():
    jitter = timedelta(minutes=5)
    delays = [delay_of(f"job-{number}", "s3://bucket/runs", "retrain", jitter) for number in range(100)]
    assert delays == [delay_of(f"job-{number}", "s3://bucket/runs", "retrain", jitter) for number in range(100)]
    assert all(timedelta(0) <= delay <= jitter for delay in delays)
    per_minute = [
        sum(minute * 60 <= delay.total_seconds() < minute * 60 + 60 for delay in delays) for minute in range(5)
    ]
    assert min(per_minute) >= 10
    assert delay_of("job", "one", "retrain", jitter) != delay_of("job", "other", "retrain", jitter)
    assert delay_of("job", "one", "retrain", jitter) != delay_of("job", "one", "drift", jitter)
    assert delay_of("job", "one", "retrain", timedelta(0)) == timedelta(0)
