"""Labels that people gave win over predictions, in every format."""

from __future__ import annotations

import csv
import json
from collections import Counter

import pyarrow.parquet as pq
import pytest

from ray_jobs.export.format_table import FORMATS
from ray_jobs.labels.label_ledger import new_label
from ray_jobs.labels.labelled_archive import LabelledArchive
from tests.ray_jobs.export.exports import export, pictures
from tests.ray_jobs.written_run import CLASSES, RUN, WrittenRun

SAID = {
    "00.jpg": ("label", "durian"),
    "01.jpg": ("unknown", None),
    "02.jpg": ("skipped", None),
    "08.jpg": ("label", "blue"),
    "09.jpg": ("unreadable", None),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    written = WrittenRun(tmp_path_factory.mktemp("run")).write(pictures(*(f"{index:02}.jpg" for index in range(10))))
    archive = LabelledArchive.open(written.store.url(RUN))
    about = {"by": "ada", "archive": archive.source.identity, "reason": "correction"}
    events = [new_label(image=image, answer=answer, label=label, **about) for image, (answer, label) in SAID.items()]
    archive.ledger.append(events)
    return written


@pytest.fixture
def rows(run, tmp_path):
    export(run, "jsonl", tmp_path / "out.jsonl", labels=True)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    return {row["image"]: row for row in map(json.loads, lines)}


def test_what_people_said_takes_the_place_of_predictions(rows):
    found = {key: (row["label"], row["status"], row["labelled_by"]) for key, row in rows.items()}
    assert found["00.jpg"] == ("durian", "ok", "ada")
    assert found["01.jpg"] == (None, "unknown", "ada")
    assert found["02.jpg"] == ("cyan", "ok", None)
    assert found["08.jpg"] == ("blue", "ok", "ada")
    assert found["09.jpg"] == (None, "unreadable", "ada")
    assert {key: rows[key]["score"] for key in ("00.jpg", "08.jpg")} == {"00.jpg": None, "08.jpg": None}


def test_without_the_option_predictions_stay_as_they_are(run, tmp_path):
    export(run, "jsonl", tmp_path / "out")
    first = json.loads((tmp_path / "out").read_text().splitlines()[0])
    assert (first["label"], "labelled_by" in first) == ("amber", False)


def test_labels_of_people_pass_any_score(run, tmp_path):
    assert export(run, "csv", tmp_path / "out", labels=True, min_score=1.0).rows == 4


def test_a_class_that_people_added_can_be_filtered_by(run, tmp_path):
    assert export(run, "csv", tmp_path / "out", labels=True, classes=("durian",)).rows == 1


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.name)
def test_every_format_takes_labels_of_people(run, tmp_path, each):
    assert export(run, each.name, tmp_path / "out", labels=True, statuses=("ok",)).rows == 7


def test_folders_and_tables_tell_who_labelled(run, tmp_path):
    export(run, "imagefolder", tmp_path / "folder", labels=True)
    assert {path.parent.name for path in (tmp_path / "folder").glob("*/00.jpg")} == {"durian"}
    with (tmp_path / "folder" / "predictions.csv").open(newline="") as file:
        assert Counter(row["labelled_by"] for row in csv.DictReader(file)) == {"": 5, "ada": 2}
    export(run, "huggingface", tmp_path / "hub", labels=True)
    table = pq.read_table(tmp_path / "hub" / "metadata.parquet")
    assert Counter(table["labelled_by"].to_pylist()) == {None: 5, "ada": 2}
    export(run, "coco", tmp_path / "coco.json", labels=True)
    names = [each["name"] for each in json.loads((tmp_path / "coco.json").read_text())["categories"]]
    assert names == [*CLASSES, "durian"]


def test_labels_of_people_are_annotations_in_label_studio(run, tmp_path):
    export(run, "labelstudio", tmp_path / "out", labels=True)
    tasks = json.loads((tmp_path / "out" / "tasks-00000.json").read_text())
    found = {task["data"]["key"]: set(task) - {"data"} for task in tasks}
    assert found["00.jpg"] == {"annotations"}
    assert found["01.jpg"] == set()
    assert found["02.jpg"] == {"predictions"}
