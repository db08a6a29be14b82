"""A wait is announced once it has lasted for a moment, and not before."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from cluster import UnitDone, UnitSkipped, WorkersReady
from ray_jobs.console import waiting
from ray_jobs.console.progress import Reporter
from ray_jobs.console.waiting import announced, finish_loading, loading


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(waiting, "AFTER_S", 0.0)


def test_a_long_wait_is_announced(at_once):
    said = threading.Event()
    lines = []

    def say(line):
        lines.append(line)
        said.set()

    with announced("reading the archive", say):
        assert said.wait(60)
    assert lines == ["reading the archive …"]


def test_a_short_wait_is_not(monkeypatch):
    monkeypatch.setattr(waiting, "AFTER_S", 3600.0)
    before = threading.active_count()
    lines = []
    with announced("reading the archive", lines.append), loading():
        finish_loading()
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(60)
    assert threading.active_count() <= before
    assert lines == []


def test_a_stage_is_announced_until_its_workers_are_ready(at_once):
    log = io.StringIO()
    reporter = Reporter(Console(file=log, width=200, markup=False, highlight=False), clock=lambda: 0.0)
    announcement = "embedding: starting workers, loading models …\n"
    with reporter.stage("embedding", 10) as on_event:
        on_event(UnitSkipped("a", 2.0))
        while announcement not in log.getvalue():
            pass
        on_event(WorkersReady(1, "this process"))
        on_event(UnitDone("b", 8, {}, 1.0))
        assert reporter.note() == {"doing": "embedding", "unit": "img", "per_second": None, "seconds_left": None}
    assert reporter.note() == {"doing": None}
    with reporter.doing("training"):
        assert reporter.note() == {"doing": "training"}
    assert log.getvalue().count("starting") == 1
