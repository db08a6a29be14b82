"""A look at an output tells what has run there, how far it came, who is at it, and where to look instead."""

from __future__ import annotations

import json
import os
import time

import pytest

from cluster import Store, acquire_lease
from cluster.storage.lease import LeaseRecord
from cluster.storage.lease_owner import Owner
from tests.ray_jobs.evaluation.test_evaluate import evaluation, write_splits
from tests.ray_jobs.place import fewshot, put, wait_until

pytestmark = pytest.mark.slow


def status(output):
    outcome = fewshot("status", output)
    assert outcome.code == 0
    return outcome


def states(output):
    return [(run["state"], run["parts"]) for run in status(output).result["runs"]]


def test_an_evaluation_is_embedding_then_measuring_then_complete(tmp_path, tiny_clip):
    write_splits(tmp_path)
    place = evaluation(tmp_path, tiny_clip)
    run = fewshot("evaluate", place.job).run
    cells = sorted(place.output.glob("evaluations/*/*/*"))
    assert states(place.job) == [("complete", "8/8")]
    (run / "metrics.json").unlink()
    cells[0].unlink()
    assert states(place.job) == [("measuring", "7/8")]
    for cell in cells[1:]:
        cell.unlink()
    features = sorted(place.output.glob("features/*/*/*"))
    features[0].unlink()
    assert states(place.job) == [("embedding", f"{len(features) - 1}/{len(features)}")]
    assert fewshot("evaluate", place.job).code == 0
    assert states(place.job) == [("complete", "8/8")]


def test_status_names_the_process_of_a_run(finished):
    run = finished.classify().run
    assert status(finished.output).result["runs"][0]["process"] is None
    with acquire_lease(Store(str(run)), "lease"):
        found = status(finished.output)
    assert found.result["runs"][0]["process"].startswith(f"process {os.getpid()} on ")
    assert f"process {os.getpid()}" in " ".join(found.messages.split())
    assert status(finished.output).result["runs"][0]["process"] is None


def test_outputs_below_are_named_where_nothing_has_run(tmp_path):
    for output in ("near", "runs/usual"):
        put(tmp_path / output / "runs/one-0123/plan.json", b"{}")
    put(tmp_path / "photographs/runs/2026/1.jpg", b"")
    for command in ("status", "report"):
        outcome = fewshot(command, tmp_path)
        assert (outcome.code, outcome.result) == (2, None)
        assert outcome.messages.splitlines() == [
            f"error: no job has run in {tmp_path}: there is no run below it",
            f"error: there is an output at {tmp_path / 'near'}",
            f"error: there is an output at {tmp_path / 'runs/usual'}",
        ]


@pytest.mark.parametrize("command", ["status", "report"])
def test_a_mistyped_output_is_refused_with_the_one_beside_it(tmp_path, command):
    for output in ("groceries", "unlike"):
        put(tmp_path / output / "runs/one-0123/plan.json", b"{}")
    put(tmp_path / "grocerie/photograph.jpg", b"")
    outcome = fewshot(command, tmp_path / "grocries")
    assert (outcome.code, outcome.result) == (2, None)
    assert outcome.messages.splitlines() == [
        f"error: no job has run in {tmp_path / 'grocries'}: there is no run below it",
        f"error: there is an output at {tmp_path / 'groceries'}",
    ]


@pytest.mark.parametrize("command", ["status", "report"])
def test_the_output_of_a_job_file_may_be_empty_still(tmp_path, command):
    (tmp_path / "job.toml").write_text(f'[job]\nname = "a"\noutput = "{tmp_path / "output"}"\n')
    outcome = fewshot(command, tmp_path / "job.toml")
    assert (outcome.code, outcome.result["below"]) == (0, [])
    assert f" in {tmp_path / 'output'}" in outcome.messages


def test_a_folder_with_the_name_of_a_job_file_is_an_output(tmp_path):
    put(tmp_path / "x.toml/runs/one-0123/plan.json", b"{}")
    assert status(tmp_path / "x.toml").result["runs"][0]["state"] == "unreadable"


NOTE = {"doing": "embedding", "unit": "img", "per_second": 2.0, "seconds_left": 3.0}


def test_the_status_of_a_running_job_has_its_share_rate_and_time_left(place):
    done = place.classify()
    run = done.run
    (run / "metrics.json").unlink()
    for part in done.parts:
        part.unlink()
    features = [path for path in place.output.glob("features/*/*/*") if "examples-" not in str(path.parent)]
    features[0].unlink()
    with acquire_lease(Store(str(run)), "lease", note=lambda: NOTE, term_s=0.6):
        assert wait_until(lambda: b'"per_second"' in next((run / "lease").glob("[!.]*")).read_bytes())
        seen = status(place.job)
    (found,) = seen.result["runs"]
    assert (found["state"], found["running"], found["resume"]) == ("embedding", True, None)
    assert (found["doing"], found["per_second"], found["unit"]) == ("embedding", 2.0, "img")
    work = json.loads((run / "plan.json").read_text())["work"]
    total = sum(work.values())
    assert work["examples"] == 12  # Two examples of three classes, each as it is and in one view.
    assert work["examples"] / total < found["share"] < 1
    assert found["seconds_left"] == pytest.approx((1 - found["share"]) * total / 2.0, abs=0.1)
    assert 0 <= found["sign_of_life_s"] < 60
    words = " ".join(seen.messages.split())
    assert f"{run.name}: embedding; 2.0 img/s; about {found['seconds_left']:.0f} s left; process {os.getpid()}" in words
    assert "last sign of life" in words


def test_a_rate_of_shards_gives_no_time_for_images(place):
    done = place.classify()
    run = done.run
    (run / "metrics.json").unlink()
    for part in [*done.parts, *place.output.glob("features/*/*/*")]:
        part.unlink()
    note = NOTE | {"unit": "shards", "per_second": 0.04}
    with acquire_lease(Store(str(run)), "lease", note=lambda: note, term_s=0.6):
        assert wait_until(lambda: b'"per_second"' in next((run / "lease").glob("[!.]*")).read_bytes())
        seen = status(place.job)
    (found,) = seen.result["runs"]
    assert (found["state"], found["unit"], found["seconds_left"]) == ("embedding", "shards", 3.0)
    assert "embedding; 0.04 shards/s; about 3 s left of that" in " ".join(seen.messages.split())


def test_a_run_that_stopped_says_so_and_how_to_go_on(place):
    run = place.classify().run
    (run / "metrics.json").unlink()
    for argument, job_file in ((place.job, place.job), (place.output, run / "job.toml")):
        (found,) = status(argument).result["runs"]
        assert (found["running"], found["share"], found["sign_of_life_s"]) == (False, 1.0, None)
        assert found["resume"] == f"fewshot classify {job_file}"
    put(run / "lease/1", LeaseRecord(Owner.this_process(), 0.2).to_bytes().replace(b'"machine": "', b'"machine": "x'))
    os.utime(run / "lease/1", (time.time() - 300,) * 2)
    seen = status(place.job)
    (found,) = seen.result["runs"]
    assert (found["running"], round(found["sign_of_life_s"] / 60)) == (False, 5)
    words = " ".join(seen.messages.split())
    assert f"{run.name}: stopped, last sign of life 5 min ago (process {os.getpid()} on" in words
    assert f"To go on: fewshot classify {place.job}" in words
    assert fewshot(*found["resume"].split()[1:]).code == 0
    assert status(place.job).result["runs"][0]["resume"] is None


def test_a_note_that_is_nonsense_is_not_shown(place):
    run = place.classify().run
    (run / "metrics.json").unlink()
    note = {"doing": 7, "unit": [], "per_second": -1, "seconds_left": "x"}
    with acquire_lease(Store(str(run)), "lease", note=lambda: note, term_s=0.6):
        assert wait_until(lambda: b'"per_second"' in next((run / "lease").glob("[!.]*")).read_bytes())
        (found,) = status(place.job).result["runs"]
    assert {found[key] for key in note} == {None}


def test_the_newest_run_is_marked(place):
    first = place.classify().run
    second = place.classify("classifier.top=2").run
    newest = {run["run"]: run["newest"] for run in status(place.output).result["runs"]}
    assert newest == {first.name: False, second.name: True}
    assert place.classify().result["did"] == "nothing"
    assert f"{first.name} (newest)" in " ".join(status(place.output).messages.split())
    third = place.classify("classifier.top=1").run
    (third / "metrics.json").unlink()
    os.utime(first / "plan.json", (time.time() - 60,) * 2)
    newest = {run["run"]: run["newest"] for run in status(place.output).result["runs"]}
    assert newest == {first.name: False, second.name: False, third.name: True}


@pytest.mark.parametrize("command", ["status", "report"])
def test_a_file_is_refused_as_an_output(tmp_path, command):
    put(tmp_path / "notes.txt", b"")
    outcome = fewshot(command, tmp_path / "notes.txt")
    assert (outcome.code, outcome.result) == (2, None)
    assert "notes.txt" in outcome.messages
