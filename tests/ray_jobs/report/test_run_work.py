"""What the stages of a run took is noted beside it, adds up over calls, and has a page of its own."""

from __future__ import annotations

import io
import re
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from cluster import Store, UnitDone, UnitSkipped, WorkersReady
from ray_jobs.console.progress import Reporter
from ray_jobs.output.layout import WORK, WORK_PAGE
from ray_jobs.output.runs import read_work, record_work
from ray_jobs.report import find_reports
from ray_jobs.results.run_work import RunWork, StageWork
from tests.ray_jobs.place import Place, fewshot
from tests.ray_jobs.report.test_report import PICTURES, Page, page_of
from tests.ray_jobs.written_run import RUN, WrittenRun

pytestmark = pytest.mark.slow
STAGE = StageWork(
    stage="embedding",
    unit="img",
    done=100,
    seconds=60.0,
    workers=2,
    where="Ray on this machine",
    worker_s=7200.0,
    cpu_s=14400.0,
    gpu_s=3600.0,
)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_stage_takes_the_time_of_all_workers_from_when_they_are_ready():
    clock = Clock()
    reporter = Reporter(Console(file=io.StringIO()), clock=clock)
    with reporter.stage("nothing left", 5) as on_event:
        on_event(UnitSkipped("a", 5))
    with reporter.stage("embedding", 9) as on_event:
        clock.now = 4.0
        on_event(UnitSkipped("a", 5))
        on_event(WorkersReady(3, "Ray at head", cpus=2.0, gpus=0.5))
        on_event(UnitDone("b", 4, {}, 1.0))
        clock.now = 10.0
    assert reporter.finished == [
        StageWork(
            stage="embedding",
            unit="img",
            done=4,
            seconds=10.0,
            workers=3,
            where="Ray at head",
            worker_s=18.0,
            cpu_s=36.0,
            gpu_s=9.0,
        )
    ]


def test_a_stage_that_is_interrupted_is_not_counted():
    reporter = Reporter(Console(file=io.StringIO()))
    with suppress(KeyboardInterrupt), reporter.stage("embedding", 9) as on_event:
        on_event(WorkersReady(1, "this process"))
        raise KeyboardInterrupt
    assert reporter.finished == []


def test_the_work_of_calls_adds_up(tmp_path):
    store = Store(str(tmp_path))
    assert read_work(store, RUN) is None
    record_work(store, RUN, [])
    assert not store.exists(f"{RUN}/{WORK}")
    record_work(store, RUN, [STAGE])
    record_work(store, RUN, [STAGE])
    assert read_work(store, RUN) == RunWork(calls=2, stages=(STAGE + STAGE,))
    assert (STAGE + STAGE).worker_s == 14400.0
    store.put(f"{RUN}/{WORK}", b"{}")
    assert read_work(store, RUN) is None


def test_the_page_has_the_hours_of_each_stage_and_of_all(tmp_path):
    run = WrittenRun(tmp_path).write(PICTURES)
    assert WORK_PAGE.rpartition("/")[2] not in page_of(run)
    record_work(run.store, RUN, [STAGE, StageWork(**STAGE.to_json() | {"stage": "<b>labelling", "gpu_s": 0.0})])
    assert 'href="work.html"' in page_of(run)
    path = Path(run.store.url(f"{RUN}/{WORK_PAGE}"))
    html = path.read_text(encoding="utf-8").replace("\u00a0", " ")
    assert {tag for tag, _ in Page(html).tags}.isdisjoint({"b", "script"})
    cells = [re.sub("<[^>]*>", "", cell) for cell in re.findall("<t[dh][^>]*>(.*?)</t[dh]>", html)]
    rows = [cells[start : start + 9] for start in range(9, len(cells), 9)]
    assert rows == [
        ["embedding", "Ray on this machine", "2", "100 img", "1.0", "1.7", "2.00", "4.00", "1.00"],
        ["&lt;b&gt;labelling", "Ray on this machine", "2", "100 img", "1.0", "1.7", "2.00", "4.00", "0.00"],
        ["together", "", "", "", "2.0", "", "4.00", "8.00", "1.00"],
    ]
    path.unlink()
    find_reports(run.store.root)
    assert path.read_text(encoding="utf-8").replace("\u00a0", " ") == html


def test_a_job_notes_its_work_once(tmp_path, tiny_clip):
    place = Place(tmp_path, tiny_clip).fill()
    outcome = place.classify()
    work = RunWork.from_json((outcome.run / "work.json").read_bytes(), where="")
    assert work.calls == 1
    assert {stage.unit for stage in work.stages} >= {"img"}
    assert all(stage.done > 0 and stage.seconds > 0 for stage in work.stages)
    assert "What ran where, and how long" in (outcome.run / "report" / "index.html").read_text()
    assert place.classify().code == 0
    assert RunWork.from_json((outcome.run / "work.json").read_bytes(), where="") == work
    assert fewshot("verify", place.output).code == 0
