"""Each format is read back by the library that it is for, or by its documented structure."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import ImageFolder

from ray_jobs.errors import JobError
from ray_jobs.export.format_table import FORMATS
from ray_jobs.export.label_studio import LOCAL
from ray_jobs.export.xmp_sidecars import DC, LR, OWN, RDF
from tests.ray_jobs.export.exports import NAMES, STRANGE, export, pictures
from tests.ray_jobs.place import picture
from tests.ray_jobs.written_run import CLASSES, WrittenRun

ALL_STATUSES = ("ok", "abstained", "unknown", "unreadable")


@pytest.fixture(scope="module")
def images():
    return pictures(*NAMES, *STRANGE)


@pytest.fixture(scope="module")
def run(tmp_path_factory, images):
    folder = tmp_path_factory.mktemp("run")
    return WrittenRun(folder).write(images | {"broken.jpg": b"no image"}, broken={"broken.jpg": "it is no image"})


@pytest.fixture(scope="module")
def rows(run):
    """The predictions by key."""
    tables = (pq.read_table(path) for path in (run.folder / "output").glob("predictions/*/*"))
    return {row["image"]: row for table in tables for row in table.to_pylist()}


@pytest.fixture(scope="module")
def labelled(rows):
    return {key: row for key, row in rows.items() if row["status"] == "ok"}


def test_csv_reads_back_equal(run, rows, tmp_path):
    result = export(run, "csv", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert result.rows == len(read) == len(rows)
    for row in read:
        expected = rows[row["image"]]
        assert row["label"] == (expected["label"] or "")
        assert json.loads(row["top_labels"] or "null") == expected["top_labels"]
        assert row["score"] == ("" if expected["score"] is None else repr(expected["score"]))


def test_pandas_and_polars_read_the_csv(run, rows, tmp_path):
    export(run, "csv", tmp_path / "out.csv")
    for keys in (pd.read_csv(tmp_path / "out.csv")["image"], pl.read_csv(tmp_path / "out.csv")["image"]):
        assert list(keys) == list(rows)


def test_csv_counts_texts_that_look_like_formulas(run, tmp_path):
    assert export(run, "csv", tmp_path / "out.csv").formulas == 1


def test_jsonl_reads_back_equal(run, rows, tmp_path):
    export(run, "jsonl", tmp_path / "out.jsonl")
    text = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    read = [json.loads(line) for line in text.splitlines()]
    archive = str(run.folder / "archive")
    for row in read:
        assert row.pop("url").startswith(archive)
    assert read == list(rows.values())
    assert len(pd.read_json(io.StringIO(text), lines=True)) == len(rows)


def test_no_line_end_of_unicode_ends_a_line(tmp_path):
    keys = ("a\u2028b.jpg", "a\u2029b.jpg", "a\x85b.jpg", "plain.jpg")
    run = WrittenRun(tmp_path / "run", classes=("one\u2028two",)).write(pictures(*keys), kind="parquet")
    assert export(run, "jsonl", tmp_path / "out").rows == 4
    lines = (tmp_path / "out").read_text(encoding="utf-8").splitlines()  # At every line end of Unicode.
    assert {json.loads(line)["top_labels"][0] for line in lines} == {"one\u2028two"}
    assert len(lines) == 4


def test_coco_has_what_its_specification_requires(run, labelled, images, tmp_path):
    export(run, "coco", tmp_path / "out.json")
    document = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    categories = {each["id"]: each["name"] for each in document["categories"]}
    assert tuple(categories.values()) == CLASSES
    by_id = {each["id"]: each for each in document["images"]}
    assert len(by_id) == len(document["images"]) == len(labelled)
    found = {}
    for each in document["annotations"]:
        image = by_id[each["image_id"]]
        assert each["bbox"] == [0, 0, image["width"], image["height"]]
        assert each["area"] == image["width"] * image["height"]
        assert each["iscrowd"] == 0
        found[image["file_name"]] = (categories[each["category_id"]], each["score"])
    assert found == {key: (row["label"], row["score"]) for key, row in labelled.items()}
    assert {(each["width"], each["height"]) for each in by_id.values()} == {(48, 40)}


def test_pycocotools_reads_coco(run, labelled, tmp_path):
    export(run, "coco", tmp_path / "out.json", statuses=ALL_STATUSES)
    read = COCO(str(tmp_path / "out.json"))
    assert len(read.getAnnIds()) == len(labelled)
    amber = read.getImgIds(catIds=read.getCatIds(catNms=["amber"]))
    expected = {key for key, row in labelled.items() if row["label"] == "amber"}
    assert {read.loadImgs(each)[0]["file_name"] for each in amber} == expected


def test_torchvision_reads_the_image_folder(run, labelled, images, tmp_path):
    export(run, "imagefolder", tmp_path / "out")
    read = ImageFolder(str(tmp_path / "out"))
    assert Counter(read.classes[label] for _, label in read.samples) == Counter(
        row["label"] for row in labelled.values()
    )
    with (tmp_path / "out" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert {row["image"]: row["label"] for row in table} == {key: row["label"] for key, row in labelled.items()}
    originals = {key.encode().decode("unicode_escape") if "\\" in key else key for key in labelled}
    copied = {(tmp_path / "out" / row["file"]).read_bytes() for row in table}
    assert copied == {images[name] for name in originals}
    assert json.loads((tmp_path / "out" / "classes.json").read_text()) == {name: name for name in CLASSES}


def test_rows_without_a_label_lie_in_a_folder_of_their_status(run, rows, tmp_path):
    export(run, "imagefolder", tmp_path / "out", statuses=("abstained", "unreadable"))
    counts = Counter(path.parent.name for path in (tmp_path / "out").glob("*/*"))
    assert counts == {"_abstained": sum(row["status"] == "abstained" for row in rows.values()), "_unreadable": 1}


def test_links_take_the_place_of_copies(run, labelled, tmp_path):
    export(run, "imagefolder", tmp_path / "out", links=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"predictions.csv", "classes.json", "export.json"}
    with (tmp_path / "out" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        assert {row["url"] for row in csv.DictReader(file)} == {
            f"{run.folder}/archive/{key.encode().decode('unicode_escape') if chr(92) in key else key}"
            for key in labelled
        }


def test_a_class_called_like_a_status_has_a_folder_of_its_own(tmp_path):
    run = WrittenRun(tmp_path / "run", classes=("_abstained", "other")).write(pictures(*"abcdef"), kind="parquet")
    export(run, "imagefolder", tmp_path / "out", statuses=("ok", "abstained"))
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        found = {(row["status"], row["label"], row["file"].partition("/")[0]) for row in csv.DictReader(file)}
    expected = {("abstained", "", "_abstained"), ("ok", "_abstained", "_abstained-2"), ("ok", "other", "other")}
    assert found == expected
    names = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert names == {"_abstained-2": "_abstained", "other": "other"}


def test_the_metadata_of_a_hugging_face_folder_name_its_files(run, labelled, tmp_path):
    export(run, "huggingface", tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "metadata.parquet").to_pylist()
    assert {row["key"]: row["label"] for row in table} == {key: row["label"] for key, row in labelled.items()}
    for row in table:
        with Image.open(tmp_path / "out" / row["file_name"]) as image:
            assert image.size == (48, 40)


@pytest.mark.slow
def test_datasets_reads_the_hugging_face_folder(run, labelled, tmp_path):
    export(run, "huggingface", tmp_path / "out")
    code = (
        "import json, sys; from datasets import load_dataset; rows = load_dataset(sys.argv[1])['train']\n"
        "print(json.dumps({row['key']: [row['label'], row['image'].size] for row in rows}))"
    )
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        env=os.environ | offline,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {key: [row["label"], [48, 40]] for key, row in labelled.items()}


def test_fiftyone_finds_an_image_for_each_label(run, labelled, tmp_path):
    export(run, "fiftyone", tmp_path / "out", statuses=("ok", "abstained"))
    document = json.loads((tmp_path / "out" / "labels.json").read_text(encoding="utf-8"))
    assert document["classes"] == list(CLASSES)
    assert {path.stem for path in (tmp_path / "out" / "data").iterdir()} == set(document["labels"])
    given = [label for label in document["labels"].values() if label is not None]
    assert {label["attributes"]["image"]: label["label"] for label in given} == {
        key: row["label"] for key, row in labelled.items()
    }


def test_fiftyone_can_link_to_local_files(run, tmp_path):
    export(run, "fiftyone", tmp_path / "out", links=True)
    paths = json.loads((tmp_path / "out" / "data.json").read_text(encoding="utf-8"))
    labels = json.loads((tmp_path / "out" / "labels.json").read_text(encoding="utf-8"))["labels"]
    assert paths.keys() == labels.keys()
    for path in paths.values():
        with Image.open(path) as image:
            assert image.size == (48, 40)


def test_label_studio_shows_each_image_with_its_best_guess(run, rows, tmp_path):
    export(run, "labelstudio", tmp_path / "out")
    tasks = json.loads((tmp_path / "out" / "tasks-00000.json").read_text(encoding="utf-8"))
    config = ET.fromstring((tmp_path / "out" / "config.xml").read_bytes())
    assert [choice.get("value") for choice in config.iter("Choice")] == list(CLASSES)
    names = {each.get("name") for each in config.iter() if each.get("name")}
    found = {}
    for task in tasks:
        (prediction,) = task["predictions"]
        (result,) = prediction["result"]
        assert {result["from_name"], result["to_name"]} == names
        with Image.open(tmp_path / unquote(task["data"]["image"].removeprefix(LOCAL))) as image:
            assert image.size == (48, 40)
        (found[task["data"]["key"]],) = result["value"]["choices"]
    assert found == {key: row["top_labels"][0] for key, row in rows.items() if row["top_labels"]}


def test_label_studio_files_have_a_bounded_number_of_tasks(run, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("ray_jobs.export.label_studio.TASKS", 4)
    export(run, "labelstudio", tmp_path / "out")
    files = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("tasks-*.json"))]
    assert [len(tasks) for tasks in files] == [4, 4, 4]
    assert [task["data"]["key"] for tasks in files for task in tasks] == [key for key in rows if key != "broken.jpg"]


def test_sidecars_have_the_label_as_a_keyword(run, labelled, tmp_path):
    export(run, "xmp", tmp_path / "out")
    found = {}
    for path in (tmp_path / "out").rglob("*.xmp"):
        about = ET.fromstring(path.read_bytes()).find(f".//{{{RDF}}}Description")
        (subject,) = about.findall(f"{{{DC}}}subject/{{{RDF}}}Bag/{{{RDF}}}li")
        (keyword,) = about.findall(f"{{{LR}}}hierarchicalSubject/{{{RDF}}}Bag/{{{RDF}}}li")
        assert keyword.text == f"fewshot|{subject.text}"
        key = about.get(f"{{{OWN}}}key")
        assert path.relative_to(tmp_path / "out").as_posix() == f"{key}.xmp"
        found[key] = subject.text
    assert found == {key: row["label"] for key, row in labelled.items()}


def test_labels_that_xml_cannot_hold_are_written_all_the_same(tmp_path):
    classes = ("a|b", 'a<b> & "c"', "bell\x07")
    run = WrittenRun(tmp_path / "run", classes=classes).write(pictures("0.jpg", "1.jpg", "2.jpg", "3.jpg"))
    assert export(run, "xmp", tmp_path / "out").rows == 3
    export(run, "labelstudio", tmp_path / "tasks")
    config = ET.fromstring((tmp_path / "tasks" / "config.xml").read_bytes())
    assert {choice.get("value") for choice in config.iter("Choice")} == {'a<b> & "c"', "bell\ufffd", "a|b"}
    for path in (tmp_path / "out").rglob("*.xmp"):
        keyword = ET.fromstring(path.read_bytes()).find(f".//{{{LR}}}hierarchicalSubject//{{{RDF}}}li")
        assert keyword.text in ("fewshot|a/b", 'fewshot|a<b> & "c"', "fewshot|bell\ufffd")


@pytest.mark.parametrize("kind", ["folder", "tar", "zip", "parquet"])
@pytest.mark.parametrize("to", ["imagefolder", "coco", "huggingface", "fiftyone", "labelstudio"])
def test_images_are_read_from_an_archive_of_any_form(tmp_path, kind, to):
    images = pictures("a.jpg", "b/c.jpg", "b/d.jpg", "e.jpg")
    run = WrittenRun(tmp_path / "run").write(images, kind=kind)
    result = export(run, to, tmp_path / "out", statuses=("ok", "abstained"))
    assert (result.rows, result.unreadable, result.complete) == (4, 0, True)
    copied = [path.read_bytes() for path in tmp_path.glob("out/**/*.jpg")]
    assert not copied if to == "coco" else sorted(copied) == sorted(images.values())


def test_an_image_without_a_suffix_gets_that_of_its_content(tmp_path):
    run = WrittenRun(tmp_path / "run").write({"row 3": picture("amber", 1)}, kind="parquet")
    export(run, "imagefolder", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").glob("*/*")] == ["row 3.jpg"]


@pytest.mark.parametrize("to", ["fiftyone", "labelstudio"])
def test_links_into_a_container_are_refused(tmp_path, to):
    run = WrittenRun(tmp_path / "run").write(pictures("a.jpg"), kind="tar")
    with pytest.raises(JobError, match="leave --links out"):
        export(run, to, tmp_path / "out", links=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.name)
def test_an_export_without_rows_is_whole(run, tmp_path, each):
    result = export(run, each.name, tmp_path / "out", min_score=1.0)
    assert (result.rows, result.complete) == (0, True)
    assert sum(result.skipped.values()) == len(NAMES) + len(STRANGE) + 1
    if each.name == "coco":
        assert json.loads((tmp_path / "out").read_text())["images"] == []
    if each.name == "fiftyone":
        assert json.loads((tmp_path / "out" / "labels.json").read_text())["labels"] == {}


def test_summaries_fit_a_line_of_help():
    assert all(re.fullmatch(r"[^.\n]{10,70}", each.summary) for each in FORMATS)
