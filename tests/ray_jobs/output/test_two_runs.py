"""Two runs at once on the same folder: one writes, the other is told; a dead one is not waited for."""

from __future__ import annotations

import json
import os
import signal

import psutil
import pytest

from cluster import Store, acquire_lease
from tests.ray_jobs.place import CLASSES, Cut, Place, fewshot, process, wait_until, written

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def large(tmp_path_factory, tiny_clip):
    """Enough shards to be caught in the middle."""
    place = Place(tmp_path_factory.mktemp("two"), tiny_clip).fill(images=60)
    place.write_job(archive={"shard_images": 2})
    return place


@pytest.fixture(scope="module")
def expected(large):
    return large.classify().bytes


def folder_of(place, output):
    """The run's folder, by the plan in it."""
    (plan,) = (output / "runs").glob("*/plan.json")
    return plan.parent


def asleep(large, output, *settings):
    """A run that has fallen asleep in the middle of embedding."""
    run = process("classify", large.job, f"job.output={output}", *settings, cut=Cut(12, signal.SIGSTOP))
    run.start()
    assert wait_until(lambda: psutil.Process(run.pid).status() == psutil.STATUS_STOPPED)
    return run


def test_a_held_run_is_refused_and_left_alone(finished, tmp_path):
    name = finished.classify().run.name
    output = tmp_path / "output"
    with acquire_lease(Store(str(output)), f"runs/{name}/lease", term_s=6.0):
        before = set(written(output))
        outcome = finished.classify(f"job.output={output}")
        assert (outcome.code, outcome.result) == (2, None)
        assert f"runs/{name} is being written by process" in outcome.messages
        assert "nothing was done" in outcome.messages
        assert set(written(output)) == before
    assert finished.classify(f"job.output={output}").code == 0


def test_one_of_two_simultaneous_runs_does_the_work(large, expected):
    """The one that works is held up in the middle until the other has come to its end."""
    output, gate = large.folder / "both", large.folder / "gate"
    settings, cut = (f"job.output={output}", "storage.lease_s=9"), Cut(12, gate=gate)
    both = [process("classify", large.job, *settings, cut=cut) for _ in range(2)]
    for run in both:
        run.start()
    one_has_ended = wait_until(lambda: not all(run.is_alive() for run in both))
    gate.touch()
    for run in both:
        run.join()
    assert one_has_ended
    assert sorted(run.exitcode for run in both) == [0, 2]
    outcome = large.classify(f"job.output={output}")
    assert (outcome.result["did"], outcome.bytes) == ("nothing", expected)


def test_a_killed_run_is_continued_at_once(large, expected):
    output = large.folder / "killed"
    run = asleep(large, output, "storage.lease_s=3600")
    run.kill()
    run.join()
    assert list((folder_of(large, output) / "lease").iterdir())
    outcome = large.classify(f"job.output={output}", "storage.lease_s=3600")
    assert (outcome.code, outcome.result["did"], outcome.bytes) == (0, "the rest", expected)
    assert list((outcome.run / "lease").iterdir()) == []


def test_a_run_that_slept_too_long_stops_when_it_wakes(large, expected):
    """The one that took over is still at work then: a second lease, held by this process."""
    output = large.folder / "slept"
    run = asleep(large, output, "storage.lease_s=2")
    folder = folder_of(large, output)
    store, name = Store(str(output)), folder.name
    with acquire_lease(store, f"runs/{name}/lease") as lease:
        before = set(written(folder))
        os.kill(run.pid, signal.SIGCONT)
        run.join()
        assert run.exitcode == 1
        assert set(written(folder)) == before
        lease.check()
    outcome = large.classify(f"job.output={output}")
    assert (outcome.code, outcome.bytes) == (0, expected)


@pytest.fixture
def evaluated(finished, tmp_path):
    """A job file that evaluates the examples of `finished`."""
    examples = sorted(path.relative_to(finished.examples).as_posix() for path in finished.examples.rglob("*.jpg"))
    rows = [[path, CLASSES.index(path.split("/")[0]), path.split("/")[0]] for path in examples]
    splits = tmp_path / "split_zhou_x.json"
    splits.write_text(json.dumps({"train": rows[::2], "val": [], "test": rows[1::2]}))
    return finished, {"evaluate.splits": splits, "evaluate.images": finished.examples, "job.output": tmp_path / "out"}


def test_an_evaluation_holds_a_lease_too(evaluated, tmp_path):
    place, changes = evaluated
    words = [f"{key}={value}" for key, value in changes.items()]
    words += ["evaluate.methods=['nearest_mean']", "evaluate.shots=[1]", "evaluate.seeds=[1]"]
    options = [option for word in words for option in ("--set", word)]
    first = fewshot("evaluate", place.job, *options)
    assert first.code == 0, first.messages
    with acquire_lease(Store(str(tmp_path / "out")), f"runs/{first.run.name}/lease", term_s=6.0):
        second = fewshot("evaluate", place.job, *options)
    assert second.code == 2
    assert "is being written by process" in second.messages
