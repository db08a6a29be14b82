"""A finished run that lost something is not complete: the loss is named, and made anew with the same bytes."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from fewshot.digests import check_json
from ray_jobs.classification.finished_run import Losses
from ray_jobs.errors import JobError
from ray_jobs.output.runs import open_run
from tests.ray_jobs.place import Place, fewshot, parts_of_run, put, written

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_clip):
    """A finished run. Tests that take something from it leave it as it was."""
    place = Place(tmp_path_factory.mktemp("finished"), tiny_clip).fill()
    assert place.classify().code == 0
    return place


@pytest.fixture
def run(place):
    """The run's folder; afterwards every object has its bytes again."""
    outcome = place.classify()
    assert outcome.result["did"] == "nothing"
    before = contents(outcome)
    yield outcome.run
    assert contents(outcome) == before


def contents(outcome):
    """All objects of the run but those that add up what its calls took."""
    folders = (outcome.run, *{part.parent for part in parts_of_run(outcome.run)})
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.name not in ("work.json", "work.html")}


def parts(run):
    return parts_of_run(run)


@pytest.mark.parametrize("loss", [{"missing": ("a",)}, {"resized": ("a",)}, {"unreadable": ("a",)}, {"is_noted": True}])
def test_every_kind_of_loss_leaves_something_to_do(loss):
    assert Losses(**loss)
    assert not Losses()


def test_metrics_record_the_length_of_every_part(run):
    metrics = check_json(json.loads((run / "metrics.json").read_text()))
    assert metrics["part_bytes"] == [part.stat().st_size for part in parts(run)]


def test_missing_parts_are_named_and_made_anew(place, run):
    for part in parts(run)[1:3]:
        part.unlink()
    problem = "is complete, but 2 of 9 parts of predictions are missing, such as predictions/[0-9a-f]{16}/part-"
    with pytest.raises(JobError, match=problem):
        open_run(str(run)).predictions()
    assert fewshot("plan", place.job, "--no-probe").result["finished"] is False
    outcome = place.classify()
    assert (outcome.code, outcome.result["did"], outcome.result["images"]) == (0, "the rest", 20)
    assert re.search(
        rf"missing from the finished run, made anew: {place.output}/predictions/\S+/part-\S+ and 1 more",
        outcome.messages,
    )


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: b"", lambda data: data + b"\n"])
def test_a_part_of_another_length_is_made_anew(place, run, change):
    part = parts(run)[0]
    part.write_bytes(change(part.read_bytes()))
    outcome = place.classify()
    assert outcome.code == 0
    assert f"of another length than was recorded, made anew: {part}" in outcome.messages


@pytest.mark.parametrize("name", ["failures.parquet", "job.toml", "plan.json"])
def test_a_missing_document_is_written_anew(place, run, name):
    (run / name).unlink()
    outcome = place.classify()
    assert outcome.code == 0
    assert f"missing from the finished run, made anew: {run / name}" in outcome.messages


@pytest.mark.parametrize("name", ["plan.json", "metrics.json"])
def test_a_damaged_document_is_written_anew_and_hides_no_other_run(place, run, name, caplog):
    other = place.classify("classifier.method=zero_shot").run
    put(run / name, (run / name).read_bytes().replace(b'"classes"', b'"claszes"').replace(b'"images"', b'"imagez"'))
    status = fewshot("status", place.output)
    assert (status.code, {each["run"]: each["state"] for each in status.result["runs"]}) == (
        0,
        {run.name: "unreadable", other.name: "complete"},
    )
    report = fewshot("report", place.output)
    assert {each["run"]: each["path"] is not None for each in report.result["reports"]} == {
        run.name: False,
        other.name: True,
    }
    verified = fewshot("verify", place.output)
    assert [len(each["damaged"]) for each in verified.result["runs"]] == [
        int(each["run"] == run.name) for each in verified.result["runs"]
    ]
    assert open_run(str(other)).is_complete
    assert place.classify("classifier.method=zero_shot").result["did"] == "nothing"
    (run / "damaged.json").unlink()
    outcome = place.classify()
    assert outcome.code == 0
    assert f"{run / name}" in outcome.messages
    assert fewshot("status", place.output).result["runs"][0]["state"] == "complete"
    shutil.rmtree(other)


@pytest.mark.parametrize("kind", ["card", "metrics", "part"])
def test_a_folder_in_the_place_of_an_object_is_named_in_one_line(place, run, kind):
    classifier = json.loads((run / "plan.json").read_bytes())["classifier"]
    paths = {"card": place.output / classifier / "card.json", "metrics": run / "metrics.json", "part": parts(run)[0]}
    path = paths[kind]
    before = path.read_bytes()
    path.unlink()
    put(path / "stray.txt", b"x")
    outcome = place.classify()
    assert outcome.code == 1
    (line,) = (line for line in outcome.messages.splitlines() if "a folder has its name" in line)
    assert f"{path}: a folder has its name. Remove or rename this folder, and run again" in line
    assert "Traceback" not in outcome.messages
    shutil.rmtree(path)
    path.write_bytes(before)
    assert place.classify().code == 0


def test_files_of_others_are_neither_counted_nor_touched(place, run):
    (first, second), count = parts(run)[:2], len(parts(run))
    strays = {
        first.with_name(f"{first.stem} (copy).parquet"): first.read_bytes(),
        first.with_name(".nfs000000000001"): first.read_bytes(),
        first.with_name("notes.txt"): b"mine",
        first.with_name("part-0123456789abcdef.parquet~"): b"",
        first.parent / "more" / second.name: second.read_bytes(),
    }
    for path, data in strays.items():
        put(path, data)
    before = written(first.parent)
    assert place.classify().result["did"] == "nothing"
    assert len(open_run(str(run)).predictions()) == 20
    (run / "metrics.json").unlink()
    outcome = place.classify()
    assert (outcome.code, outcome.result["complete"], outcome.result["images"]) == (0, True, 20)
    assert written(first.parent) == before
    (run / "metrics.json").unlink()
    second.unlink()
    assert fewshot("status", place.output).result["runs"][0]["parts"] == f"{count - 1}/{count}"
    assert place.classify().code == 0
    for path in strays:
        path.unlink()
    (first.parent / "more").rmdir()


def test_all_damaged_parts_of_a_resumed_run_are_removed_at_once(place, run):
    (run / "metrics.json").unlink()
    damaged = parts(run)[:3]
    for part in damaged:
        data = bytearray(part.read_bytes())
        data[len(data) // 2] ^= 1
        part.write_bytes(data)
    broken = place.classify()
    assert (broken.code, broken.result) == (1, None)
    assert damaged[0].name in broken.messages
    assert "was damaged and is gone; run again to make it anew" in broken.messages
    assert "2 more parts likewise" in broken.messages
    outcome = place.classify()
    assert (outcome.code, outcome.result["complete"]) == (0, True)


def test_a_damaged_lease_is_a_line_of_the_status(place, run):
    put(run / "lease/1", b"{")
    status = fewshot("status", place.output)
    assert status.code == 0
    assert "is not a valid lease" in status.result["runs"][0]["process"]
    (run / "lease/1").unlink()
