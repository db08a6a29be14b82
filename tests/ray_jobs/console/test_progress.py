"""The time left is estimated from the last minutes, and only from work of this run."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cluster import UnitDone, UnitFailed, UnitSkipped, WorkerLost, WorkersReady
from ray_jobs.console.progress import WINDOW_S, Rate, Reporter, rate_text


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


def run(clock, rate, *, units, weight, seconds):
    for _ in range(units):
        clock.tick(seconds)
        rate.add(weight)


def test_nothing_is_estimated_before_work_was_done(clock):
    rate = Rate(clock)
    assert (rate.per_second, rate.left(100)) == (None, None)
    rate.start()
    assert rate.per_second is None
    clock.tick(2)
    rate.add(10)
    assert rate.per_second == pytest.approx(5)


def test_the_start_of_workers_does_not_count(clock):
    rate = Rate(clock)
    clock.tick(60)
    rate.start()
    run(clock, rate, units=4, weight=8, seconds=2)
    assert rate.per_second == pytest.approx(4)


@given(units=st.integers(1, 50), weight=st.integers(1, 300), seconds=st.floats(0.01, 60), left=st.integers(0, 10**6))
def test_a_steady_rate_gives_the_exact_time_left(units, weight, seconds, left):
    clock = Clock()
    rate = Rate(clock)
    rate.start()
    run(clock, rate, units=units, weight=weight, seconds=seconds)
    assert rate.per_second == pytest.approx(weight / seconds)
    assert rate.left(left).total_seconds() == pytest.approx(left * seconds / weight, abs=0.5, rel=1e-9)


def test_only_the_last_two_minutes_count(clock):
    rate = Rate(clock)
    rate.start()
    run(clock, rate, units=100, weight=10, seconds=1)
    run(clock, rate, units=int(WINDOW_S) + 1, weight=30, seconds=1)
    assert rate.per_second == pytest.approx(30)


def test_units_that_end_at_the_same_moment_give_no_rate(clock):
    rate = Rate(clock)
    rate.add(5)
    rate.add(5)
    assert rate.per_second is None


@pytest.fixture
def messages():
    return io.StringIO()


@pytest.fixture
def reporter(messages, clock):
    return Reporter(Console(file=messages, width=200, markup=False, highlight=False), clock=clock)


def test_skipped_units_count_as_done_and_not_as_rate(reporter, messages, clock):
    with reporter.stage("embedding", 1100) as on_event:
        for index in range(10):
            on_event(UnitSkipped(f"{index}", 100))
        on_event(WorkersReady(2, "Ray on this machine"))
        clock.tick(20)
        on_event(UnitDone("a", 20, {}, 1.0))
    lines = messages.getvalue().splitlines()
    assert lines == [
        "embedding: 2 workers on Ray on this machine",
        "embedding: 1020/1100, 1.0 img/s, 0:01:20 left",
        "embedding: 1020/1100, done",
    ]


def test_no_time_left_is_shown_without_a_total(reporter, messages, clock):
    with reporter.stage("embedding", None) as on_event:
        on_event(WorkersReady(1, "this process"))
        clock.tick(20)
        on_event(UnitDone("a", 20, {}, 1.0))
    assert messages.getvalue().splitlines()[1] == "embedding: 20, 1.0 img/s"


def test_markup_in_failures_is_not_interpreted(reporter, messages):
    with reporter.stage("embedding", 10) as on_event:
        on_event(UnitFailed("part-[/red].parquet", 5, "Traceback\nValueError: [bold] no", 1))
        on_event(WorkerLost("it was [/dim] killed", ("a",)))
    assert messages.getvalue().splitlines()[:2] == [
        "failed: part-[/red].parquet: ValueError: [bold] no",
        "worker lost, its work goes to a new one: it was [/dim] killed",
    ]


def test_a_terminal_shows_a_bar_without_a_total(messages):
    console = Console(file=messages, width=120, force_terminal=True, markup=False)
    with Reporter(console).stage("embedding", None) as on_event:
        on_event(WorkersReady(1, "this process"))
        on_event(UnitDone("a", 20, {}, 1.0))
    assert "embedding" in messages.getvalue()
    assert "-1 day" not in messages.getvalue()


def test_time_left_is_whole_seconds(clock):
    rate = Rate(clock)
    rate.start()
    run(clock, rate, units=3, weight=1, seconds=0.3)
    assert rate.left(7) == timedelta(seconds=2)


@pytest.mark.parametrize(("rate", "text"), [(1234.56, "1234.6 img/s"), (1.0, "1.0 img/s"), (0.0123, "0.012 img/s")])
def test_slow_rates_keep_two_digits(rate, text):
    assert rate_text(rate, "img") == text
