"""`max_error_from = "audit"`: the next run of the same classifier, and no other, uses the threshold of an audit."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster import Store
from fewshot.audit.draw import THRESHOLDS
from ray_jobs.audit.audited_threshold import _as_scores
from ray_jobs.output.layout import METRICS, PLAN
from tests.ray_jobs.audit.answered_table import fill
from tests.ray_jobs.place import CLASSES, Place, fewshot, picture, put

AUDITED = {"max_error": 0.5, "max_error_from": "audit"}


@pytest.fixture(scope="module")
def audited(finished: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place whose run is audited: 90 images, all of them answered."""
    folder = tmp_path_factory.mktemp("audited") / "copy"
    shutil.copytree(finished.folder, folder, ignore=shutil.ignore_patterns("output"))
    place = Place(folder, finished.clip)
    for index in range(18, 90):
        put(place.archive / f"photo_{index:03}.jpg", picture(CLASSES[index % 3], index))
    place.write_job()
    assert place.classify().code == 0
    answer(place, "--n", "90")
    return place


@pytest.fixture
def place(audited: Place, tmp_path: Path) -> Place:
    """A copy to write in."""
    shutil.copytree(audited.folder, tmp_path / "copy")
    copy = Place(tmp_path / "copy", audited.clip)
    copy.write_job(archive={"uri": str(audited.archive)})  # Events name the archive by its place.
    return copy


def answer(place: Place, *words: str) -> None:
    """Audit the newest run, and answer every image."""
    table = place.folder / "audit.csv"
    table.unlink(missing_ok=True)
    assert fewshot("audit", place.output, *words, "--table", table).code == 0
    fill(table)
    assert fewshot("labels", "import", place.output, table).code == 0


def write(place: Place, audited: Place, **classifier: object) -> None:
    section = {"method": "tip_adapter", **classifier}
    place.write_job(archive={"uri": str(audited.archive)}, classifier=section)


def predictions(place: Place, run: str) -> list[dict[str, object]]:
    plan = json.loads(Path(run, PLAN).read_text())
    return [row for part in plan["predictions"] for row in pq.read_table(place.output / part).to_pylist()]


def test_the_next_run_withholds_labels_below_the_threshold_of_the_audit(place, audited):
    write(place, audited, **AUDITED)
    done = place.classify()
    assert done.code == 0, done.messages
    found = done.result["audited"]
    assert (found["answered"], found["population"], found["max_error"]) == (90, 90, 0.5)
    assert found["date"] == datetime.now(UTC).date().isoformat()
    assert found["threshold"] in {_as_scores(each) for each in THRESHOLDS}
    rows = predictions(place, done.result["run"])
    assert all((row["status"] == "ok") == (row["score"] >= found["threshold"]) for row in rows if row["score"])
    labelled = sum(row["status"] == "ok" for row in rows)
    assert 0 < labelled == round(found["share"] * 90)
    assert "promised with 90% confidence by an audit of 90 of 90 images" in done.messages
    assert found == json.loads(Path(done.result["run"], METRICS).read_text())["audited"]
    assert "promised with 90% confidence by an audit of 90 of 90 images" in Path(done.result["report"]).read_text()
    again = place.classify()
    assert (again.result["did"], again.result["audited"]) == ("nothing", found)


def test_a_plan_says_where_the_threshold_comes_from(place, audited):
    write(place, audited, **AUDITED)
    done = fewshot("plan", place.job, "--no-probe")
    assert done.code == 0, done.messages
    assert done.result["audited"]["draw"].endswith("-0")
    assert "promised with 90% confidence by an audit of 90 of 90 images" in done.messages
    assert "held-out examples, all labelled right" not in done.messages


def test_the_classifier_of_the_run_has_the_threshold_in_python(place, audited):
    from ray_jobs.interface.stored import load_classifier

    write(place, audited, **AUDITED)
    done = place.classify()
    assert load_classifier(done.result["run"]).threshold == done.result["audited"]["threshold"]


def test_every_label_is_withheld_where_no_threshold_passes(place, audited):
    write(place, audited, max_error=0.001, max_error_from="audit")
    done = place.classify()
    assert (done.code, done.result["ok"], done.result["audited"]["threshold"]) == (0, 0, None)
    assert "shows no threshold for it, so every label is withheld" in done.messages


def test_more_answers_make_another_run(place, audited):
    write(place, audited, **AUDITED)
    first = place.classify().result
    event = "image,label,answer,reason,draw,probability\n"
    row = next(csv.DictReader((place.folder / "audit.csv").open()))
    (place.folder / "more.csv").write_text(f"{event}{row['image']},,unknown,audit,{row['draw']},{row['probability']}\n")
    assert fewshot("labels", "import", place.output, place.folder / "more.csv").result["written"] == 1
    second = place.classify().result
    assert second["run"] != first["run"]
    assert second["audited"] != first["audited"]


@pytest.mark.parametrize(
    "classifier", [{"method": "nearest_mean"}, {"hyperparameters": {"alpha": 2.0, "beta": 3.0}}, {"unknown": True}]
)
def test_an_audit_of_another_classifier_is_refused(place, audited, classifier):
    write(place, audited, **AUDITED | classifier)
    done = place.classify()
    assert done.code == 2
    expected = "another test of images of no class" if "unknown" in classifier else "its promise is none about this one"
    assert expected in done.messages


def test_other_classes_are_another_classifier(place, audited):
    shutil.rmtree(place.examples / "cyan")
    write(place, audited, **AUDITED)
    done = place.classify()
    assert done.code == 2
    assert "is of another classifier" in done.messages


def test_a_job_without_an_audit_is_refused(place, audited):
    shutil.rmtree(place.output / "audits")
    write(place, audited, **AUDITED)
    done = place.classify()
    assert done.code == 2
    assert f"no audit in {place.output} has answers" in done.messages
    assert fewshot("plan", place.job, "--no-probe").code == 2


def test_answers_are_those_of_the_ledger_that_the_audited_job_names(place, audited):
    shutil.rmtree(place.output / "audits")
    shared = place.folder / "shared"
    place.output.joinpath("labels").rename(shared)
    table = place.folder / "one.csv"
    table.write_text("image,answer\nphoto_000.jpg,unknown\n")
    assert fewshot("labels", "import", place.output, table).result["written"] == 1
    shutil.rmtree(shared)
    place.output.joinpath("labels").rename(shared)
    place.write_job(archive={"uri": str(audited.archive)}, support={"labels": str(shared)})
    assert place.classify().code == 0
    answer(place, "--n", "90")
    write(place, audited, **AUDITED)
    done = place.classify()
    assert done.code == 0, done.messages
    assert (done.result["audited"]["answered"], place.output.joinpath("labels").exists()) == (90, False)


def test_images_that_came_after_the_audit_are_warned_of(place, audited):
    shutil.copytree(audited.archive, place.archive, dirs_exist_ok=True)
    section = {"uri": str(place.archive), "id": "moving"}
    place.write_job(archive=section)
    assert place.classify().code == 0
    answer(place, "--n", "90")
    place.write_job(archive=section, classifier={"method": "tip_adapter", **AUDITED})
    assert "changed since the audit" not in place.classify().messages
    (place.archive / "photo_000.jpg").unlink()
    put(place.archive / "photo_090.jpg", picture("amber", 90))
    for done in (fewshot("plan", place.job, "--no-probe"), place.classify()):
        assert done.code == 0, done.messages
        assert "The archive has changed since the audit of" in " ".join(done.messages.split())


def test_folders_that_are_no_audits_are_passed_over(place, audited):
    (place.output / "audits" / "notes").mkdir()
    (place.output / "audits" / "notes" / "read.me").write_text("mine")
    write(place, audited, **AUDITED)
    assert place.classify().code == 0


def test_an_audit_needs_a_maximum_error(place, audited):
    write(place, audited, max_error_from="audit")
    done = place.classify()
    assert done.code == 2
    assert "add it, such as max_error = 0.1" in done.messages


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_the_same_scores_reach_a_threshold_as_a_float32(threshold):
    near = np.float32(threshold)
    scores = np.array([np.nextafter(near, np.float32(0)), near, np.nextafter(near, np.float32(2))], np.float32)
    assert ((scores >= np.float32(_as_scores(threshold))) == (scores.astype(float) >= threshold)).all()


def test_runs_without_the_key_are_named_as_before(place, audited):
    write(place, audited, max_error=0.5)
    first = place.classify().result
    write(place, audited, max_error=0.5, max_error_from="examples")
    assert place.classify().result["run"] == first["run"]
    assert "audited" not in first
    assert "audited" not in json.loads(Store(str(place.output)).get(f"runs/{Path(first['run']).name}/{PLAN}"))
