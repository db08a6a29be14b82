"""`verify` finds every damaged object by name, and running the job again makes the same bytes anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cluster import Store
from fewshot.digests import seal_json
from ray_jobs.output.damage_list import DAMAGE_LIST
from tests.ray_jobs.classification.test_stored_classifier import write_job
from tests.ray_jobs.evaluation.test_evaluate import evaluation, write_splits
from tests.ray_jobs.place import Place, fewshot, put, written

pytestmark = pytest.mark.slow

OBJECTS = {
    "predictions": "predictions/*/part-*",
    "features": "features/*/*/part-*",
    "examples": "features/*/examples-1/part-*",
    "classifier": "classifiers/*/*/classifier.safetensors",
    "card": "classifiers/*/*/card.json",
    "plan": "runs/*/plan.json",
    "metrics": "runs/*/metrics.json",
    "failures": "runs/*/failures.parquet",
    "job file": "runs/*/job.toml",
    "report": "runs/*/report/index.html",
    "latest": "latest.json",
}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


MEASURED = ("/load.json", "/work.json", "/report/work.html")


def objects(output):
    """All objects but leases and notes, byte for byte."""
    files = (path for path in output.rglob("*") if path.is_file() and "lease" not in path.parent.name)
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in files}


def contents(output):
    """All objects that are the same whenever they are made, byte for byte: all but what is measured."""
    return {path: data for path, data in objects(output).items() if not path.endswith(MEASURED)}


def damaged(outcome):
    return {each["path"] for run in outcome.result["runs"] for each in run["damaged"]}


def as_verified(path):
    """The object that `verify` names for a file."""
    return str(path.parent / "card.json" if path.name == "classifier.safetensors" else path)


@pytest.fixture
def done(repaired):
    """A finished classification, and its bytes; a test that changes it fails unless the changes are undone."""
    place, expected = repaired
    yield place, expected
    assert contents(place.output) == expected


@pytest.fixture(scope="module")
def repaired(tmp_path_factory, tiny_clip):
    place = Place(tmp_path_factory.mktemp("repaired"), tiny_clip).fill()
    assert place.classify().code == 0
    return place, contents(place.output)


def test_a_finished_run_is_as_it_was_written(finished):
    before = written(finished.folder)
    for target in (finished.output, finished.job, finished.classify().run):
        outcome = fewshot("verify", target)
        assert (outcome.code, outcome.result["complete"]) == (0, True), outcome.messages
        (run,) = outcome.result["runs"]
        assert (run["damaged"], run["repair"]) == ([], None)
        assert "all as they were written" in outcome.messages
        read = outcome.result["bytes"]
        sizes = sum(len(data) for data in objects(finished.output).values())
        assert read == sizes
    assert written(finished.folder) == before


@pytest.mark.parametrize("kind", ["predictions", "features", "card", "plan", "job file"])
def test_a_flipped_bit_is_named_and_a_rerun_repairs_it(done, kind):
    place, expected = done
    path = sorted(place.output.glob(OBJECTS[kind]))[-1]
    flip(path)
    outcome = fewshot("verify", place.output)
    assert (outcome.code, outcome.result["complete"]) == (1, False)
    assert damaged(outcome) == {as_verified(path)}
    assert path.name.split("-")[0] in outcome.messages or "card.json" in outcome.messages
    (run,) = outcome.result["runs"]
    assert run["repair"].startswith("fewshot classify ")
    again = fewshot(*run["repair"].split()[1:]) if kind != "job file" else place.classify()
    assert again.code == 0, again.messages
    assert f"damaged, made anew: {as_verified(path)}" in again.messages
    assert contents(place.output) == expected
    assert place.classify().result["did"] == "nothing"


def test_everything_damaged_at_once_is_repaired_at_once(done):
    place, expected = done
    paths = [path for pattern in OBJECTS.values() for path in place.output.glob(pattern)]
    for path in set(paths):
        flip(path)
    outcome = fewshot("verify", place.job)
    assert outcome.code == 1
    assert damaged(outcome) == {as_verified(path) for path in paths}
    assert outcome.result["runs"][0]["repair"] == f"fewshot classify {place.job}"
    assert place.classify().code == 0
    assert fewshot("verify", place.job).code == 0
    assert contents(place.output) == expected


def test_missing_and_resized_parts_are_named(place):
    done = place.classify()
    first, second = done.parts[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    shutil.rmtree(place.output / "features")
    outcome = fewshot("verify", done.run)
    problems = {each["path"]: each["problem"] for each in outcome.result["runs"][0]["damaged"]}
    assert problems == {str(first): "it is missing", str(second): problems[str(second)]}
    assert "digest" in problems[str(second)]


def test_files_of_others_are_neither_read_nor_touched(done):
    place, expected = done
    part, run = min(place.output.glob("predictions/*/*")), min(place.output.glob("runs/*"))
    strays = [part.with_name(f"{part.stem} (copy).parquet"), part.with_name(".nfs00000001"), part.parent / "notes.txt"]
    strays += [
        place.output / "features/notes.txt",
        place.output / "trainings/x/y.safetensors",
        run / "a~",
    ]
    for stray in strays:
        put(stray, b"mine")
    assert fewshot("verify", place.output).code == 0
    flip(part)
    assert damaged(fewshot("verify", place.output)) == {str(part)}
    assert place.classify().code == 0
    assert contents(place.output) == expected | {str(s.relative_to(place.output)): b"mine" for s in strays}
    for stray in strays:
        stray.unlink()


def test_a_note_is_removed_with_the_damage(done):
    place, expected = done
    part, run = min(place.output.glob("predictions/*/*")), min(place.output.glob("runs/*"))
    whole = part.read_bytes()
    flip(part)
    assert fewshot("verify", place.output).code == 1
    note = run / DAMAGE_LIST
    assert note.exists()
    part.write_bytes(whole)  # From a backup.
    assert fewshot("verify", place.output).code == 0
    assert contents(place.output) == expected
    note.write_text("{")
    assert place.classify().code == 0
    assert contents(place.output) == expected


def test_an_output_that_may_not_be_written_is_verified(done, monkeypatch):
    def refuse(store, path, data):
        raise PermissionError(f"could not write {path}")

    place, _ = done
    part, run = min(place.output.glob("predictions/*/*")), min(place.output.glob("runs/*"))
    flip(part)
    monkeypatch.setattr(Store, "put", refuse)
    outcome = fewshot("verify", place.output)
    assert damaged(outcome) == {str(part)}
    advice = "could not be noted, so delete the damaged objects before the job runs again"
    assert f"{advice}: could not write runs/{run.name}" in outcome.messages
    flip(part)


def test_a_run_of_another_version_is_one_line(done):
    place, _ = done
    run = min(place.output.glob("runs/*"))
    old = place.output / "runs/old-0123"
    shutil.copytree(run, old)
    document = {key: value for key, value in json.loads((run / "plan.json").read_text()).items() if key != "digest"}
    put(old / "plan.json", json.dumps(document | {"format_version": 1}).encode())
    outcome = fewshot("verify", place.output)
    assert outcome.code == 1
    assert damaged(outcome) == {str(old / "plan.json")}
    assert "from an older version" in outcome.messages
    put(old / "plan.json", json.dumps(seal_json(document | {"format_version": 4})).encode())
    assert "Upgrade fewshot" in fewshot("verify", place.output).messages
    assert not (old / DAMAGE_LIST).exists()
    shutil.rmtree(old)


def test_a_classifier_elsewhere_is_read_too(place, tmp_path):
    place.classify()
    classifier = tmp_path / "elsewhere"
    shutil.copytree(min(place.output.glob("classifiers/*/*")), classifier)
    output = tmp_path / "second"
    assert write_job(place, classifier={"from": str(classifier)}).classify(f"job.output={output}").code == 0
    assert fewshot("verify", output).code == 0
    flip(classifier / "classifier.safetensors")
    outcome = fewshot("verify", output)
    assert outcome.code == 1
    assert damaged(outcome) == {str(classifier)}


def test_an_evaluation_is_verified_and_repaired(tmp_path, tiny_clip):
    write_splits(tmp_path)
    place = evaluation(tmp_path, tiny_clip, methods=["clip_adapter"], shots=[1], seeds=[1])
    assert fewshot("evaluate", place.job).code == 0
    expected = contents(place.output)
    patterns = (
        "runs/*/table.csv",
        "runs/*/table.parquet",
        "evaluations/*/*/*",
        "fold-pretrainings/*/*",
        "trainings/*/*",
    )
    for path in {path for pattern in patterns for path in place.output.glob(pattern)}:
        flip(path)
    outcome = fewshot("verify", place.job)
    assert outcome.code == 1
    assert damaged(outcome) == {str(path) for pattern in patterns for path in place.output.glob(pattern)}
    assert outcome.result["runs"][0]["repair"] == f"fewshot evaluate {place.job}"
    assert fewshot("evaluate", place.job).code == 0
    assert fewshot("verify", place.job).code == 0
    assert contents(place.output) == expected


def test_what_is_no_output_is_explained(tmp_path, finished):
    outcome = fewshot("verify", tmp_path)
    assert (outcome.code, outcome.result) == (2, None)
    assert f"no job has run in {tmp_path}" in outcome.messages
    outcome = fewshot("verify", finished.folder)
    assert (outcome.code, outcome.result) == (2, None)
    assert f"there is an output at {finished.output}" in outcome.messages
    assert fewshot("verify", finished.truth).code == 2
