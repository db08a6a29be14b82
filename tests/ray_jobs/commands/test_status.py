"""A look at an output tells what has run there, how far it came, who is at it, and where to look instead."""

from __future__ import annotations

import os

import pytest

from cluster import Store, acquire_lease
from tests.ray_jobs.evaluation.test_evaluate import evaluation, write_splits
from tests.ray_jobs.place import fewshot, put

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
        assert (outcome.code, outcome.result["below"]) == (0, [str(tmp_path / "near"), str(tmp_path / "runs/usual")])
        assert f"there is an output at {tmp_path / 'runs/usual'}" in outcome.messages


@pytest.mark.parametrize("command", ["status", "report"])
def test_a_file_is_refused_as_an_output(tmp_path, command):
    put(tmp_path / "notes.txt", b"")
    outcome = fewshot(command, tmp_path / "notes.txt")
    assert (outcome.code, outcome.result) == (2, None)
    assert "notes.txt" in outcome.messages
