"""Progress is shown as lines in a log and as bars on a terminal, of stages and of the whole job."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cluster import UnitDone, UnitFailed, UnitSkipped, WorkerLost, WorkersReady
from ray_jobs.console.progress import Reporter
from tests.ray_jobs.console.test_rate import Clock


@pytest.fixture
def clock():
    return Clock()


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
        "embedding: 1020/1100 img, 1.0 img/s, 0:01:20 left, 2 workers",
        "embedding: 1020/1100 img, done",
    ]


def test_no_time_left_is_shown_without_a_total(reporter, messages, clock):
    with reporter.stage("embedding", None) as on_event:
        on_event(WorkersReady(1, "this process"))
        clock.tick(20)
        on_event(UnitDone("a", 20, {}, 1.0))
    assert messages.getvalue().splitlines()[1] == "embedding: 20 img, 1.0 img/s, 1 worker"


def test_markup_in_failures_is_not_interpreted(reporter, messages):
    with reporter.stage("embedding", 10) as on_event:
        on_event(UnitFailed("part-[/red].parquet", 5, "Traceback\nValueError: [bold] no", 1))
        on_event(WorkerLost("it was [/dim] killed", ("a",)))
    assert messages.getvalue().splitlines()[:2] == [
        "failed: part-[/red].parquet: ValueError: [bold] no",
        "worker lost, its work goes to a new one: it was [/dim] killed",
    ]


def test_units_that_were_run_again_or_given_up_are_counted(reporter, messages, clock):
    with reporter.stage("embedding", 1000) as on_event:
        on_event(WorkersReady(4, "Ray at head"))
        on_event(WorkerLost("its node died", ("a", "b")))
        on_event(UnitFailed("c", 5, "ValueError: no", 1))
        clock.tick(20)
        on_event(UnitDone("a", 500, {}, 10.0))
    line = messages.getvalue().splitlines()[-2]
    assert line == "embedding: 500/1000 img, 25.0 img/s, 0:00:20 left, 4 workers, 2 units retried, 1 unit failed"


STAGES = {"embedding examples": 0.0, "embedding": 1000.0, "labelling": 100.0, "escalating": 900.0}


def test_the_whole_job_has_a_line_beside_its_stage(reporter, messages, clock):
    with reporter.job("classify", STAGES):
        with reporter.stage("embedding", 500) as on_event:
            on_event(WorkersReady(1, "this process"))
            clock.tick(20)
            on_event(UnitDone("a", 100, {}, 20.0))
        with reporter.stage("labelling", 500) as on_event:
            clock.tick(20)
            on_event(UnitDone("a", 250, {}, 20.0))
        with reporter.stage("scoring, round 2", 64, unit="queries") as on_event:
            clock.tick(20)
            on_event(UnitDone("a", 32, {}, 20.0))
    lines = [line for line in messages.getvalue().splitlines() if line.startswith("classify")]
    assert lines == ["classify: 10 % done, 0:03:00 left", "classify: 52 % done, 0:01:50 left", "classify: 55 % done"]


def test_a_job_of_one_stage_has_no_line_of_its_own(reporter, messages, clock):
    with reporter.job("classify", {"embedding": 100.0, "labelling": 0.0}), reporter.stage("embedding", 50) as on_event:
        clock.tick(20)
        on_event(UnitDone("a", 10, {}, 20.0))
    assert "classify" not in messages.getvalue()


def test_a_terminal_shows_a_bar_of_the_stage_and_one_of_the_job(messages):
    console = Console(file=messages, width=200, force_terminal=True, markup=False)
    reporter = Reporter(console)
    with reporter.job("classify", STAGES), reporter.stage("embedding", 100) as on_event:
        on_event(WorkersReady(3, "Ray at head"))
        on_event(UnitDone("a", 20, {}, 1.0))
    shown = messages.getvalue()
    assert "20/100 img" in shown
    assert "3 workers" in shown
    assert "10 % done" in shown


def test_a_terminal_shows_a_bar_without_a_total(messages):
    console = Console(file=messages, width=120, force_terminal=True, markup=False)
    with Reporter(console).stage("embedding", None) as on_event:
        on_event(WorkersReady(1, "this process"))
        on_event(UnitDone("a", 20, {}, 1.0))
    assert "embedding" in messages.getvalue()
    assert "-1 day" not in messages.getvalue()
