"""The time left is estimated from whole rounds of the last minutes, and only from work of this run."""

from __future__ import annotations

import heapq
import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.console.rate import WINDOW_S, Rate, rate_text


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


def test_time_left_is_whole_seconds(clock):
    rate = Rate(clock)
    rate.start()
    run(clock, rate, units=3, weight=1, seconds=0.3)
    assert rate.left(7) == timedelta(seconds=2)


@pytest.mark.parametrize(("rate", "text"), [(1234.56, "1234.6 img/s"), (1.0, "1.0 img/s"), (0.0123, "0.012 img/s")])
def test_slow_rates_keep_two_digits(rate, text):
    assert rate_text(rate, "img") == text


def simulated(*, units, workers, unit_s, jitter, stagger, seed):
    """Ends of units with their seconds, from when the first worker is ready; each runs one unit after the other."""
    chance = random.Random(seed)
    free = [(chance.uniform(0, stagger) * unit_s if number else 0.0, number) for number in range(workers)]
    heapq.heapify(free)
    ends = []
    for _ in range(units):
        start, worker = heapq.heappop(free)
        seconds = unit_s * chance.uniform(1 - jitter, 1 + jitter)
        heapq.heappush(free, (start + seconds, worker))
        ends.append((start + seconds, seconds))
    return sorted(ends)


def estimates(ends, *, unit_s, looks=10):
    """Estimated and true seconds left, looked at several times a unit, from the first tenth of the run to its end."""
    clock = Clock()
    rate, began = Rate(clock), clock.now
    rate.start()
    waiting, end = list(reversed(ends)), ends[-1][0]
    for look in range(int(end / unit_s * looks)):
        now = (look + 0.5) * unit_s / looks
        while waiting and waiting[-1][0] <= now:
            at, seconds = waiting.pop()
            clock.now = began + at
            rate.add(256, seconds)
        clock.now = began + now
        if now >= 0.1 * end:
            yield rate.left(256 * len(waiting)).total_seconds(), end - now


@pytest.mark.parametrize("stagger", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("jitter", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("workers", [1, 2, 7, 32])
def test_the_time_left_of_a_steady_run_is_off_by_less_than_15_percent(workers, jitter, stagger):
    for seed, rounds in enumerate((40, 100)):
        for unit_s in (2.0, 20.0, 300.0):
            options = {"units": rounds * workers, "workers": workers, "jitter": jitter, "stagger": stagger}
            ends = simulated(unit_s=unit_s, seed=seed, **options)
            for estimate, left in estimates(ends, unit_s=unit_s):
                assert abs(estimate - left) < max(0.15 * left, unit_s)  # The end is a unit's, whose own is not known.


def test_the_time_left_counts_down_while_a_unit_runs(clock):
    rate = Rate(clock)
    rate.start()
    for _ in range(4):
        clock.tick(30)
        rate.add(1, 30.0)
    left = []
    for _ in range(6):
        left.append(rate.left(10).total_seconds())
        clock.tick(10)
    assert left == [300, 290, 280, 270, 270, 270]
