"""Status, class and score together, read back from each format by its library, whatever keys and classes are called."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import ImageFolder

from ray_jobs.export.destination import MANIFEST
from ray_jobs.export.export_run import export_messages
from ray_jobs.export.format_table import FORMATS
from ray_jobs.export.label_studio import LOCAL
from ray_jobs.export.xmp_sidecars import DC, OWN, RDF
from tests.ray_jobs.export.exports import export
from tests.ray_jobs.place import fewshot, picture
from tests.ray_jobs.written_run import CLASSES, RUN, WrittenRun

NAMES = (
    "a, b",
    "a/b",
    "a\\b",
    'say "it\'s"',
    "two\nlines",
    "größe 画 🍎",
    "l" * 300,
    "l" * 299 + "m",
    "<b>&amp;",
    "=1+1",
)
"""Of classes; keys have the same with a suffix, and without one."""
KEYS = [f"{number}/{name}{suffix}" for number, suffix in enumerate(("", ".jpg", ".png")) for name in NAMES]
CHOSEN = {"statuses": ("ok", "abstained"), "classes": NAMES[:8], "min_score": 0.15}
"""The threshold of the run is 0.3, so that some of the abstained images pass."""
READ_BACK = (
    "import json, sys; from datasets import load_dataset; rows = load_dataset(sys.argv[1])['train']\n"
    "print(json.dumps([[row['key'], row['label'], list(row['image'].size)] for row in rows]))"
)
SIZE = [48, 40]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    images = {key: picture(CLASSES[seed % 3], seed) for seed, key in enumerate(KEYS)}
    written = WrittenRun(tmp_path_factory.mktemp("run"), classes=NAMES)
    return written.write(images | {"broken": b"no"}, kind="parquet", broken={"broken": "it is no image"})


@pytest.fixture(scope="module")
def rows(run):
    """The predictions that are chosen, by key, found without the code that exports."""
    tables = (pq.read_table(path) for path in (run.folder / "output").glob("predictions/*/*"))
    every = [row for table in tables for row in table.to_pylist()]
    chosen = [
        row
        for row in every
        if row["status"] in CHOSEN["statuses"]
        and row["top_labels"][0] in CHOSEN["classes"]
        and row["score"] >= np.float32(CHOSEN["min_score"])
    ]
    assert {row["status"] for row in chosen} == {"ok", "abstained"}
    assert 8 < len(chosen) < len(every) - 5
    return {row["image"]: row for row in chosen}


@pytest.fixture
def labels(rows):
    """By key, the label; None where it is withheld."""
    return {key: row["label"] for key, row in rows.items()}


def test_csv(run, rows, labels, tmp_path):
    assert export(run, "csv", tmp_path / "out.csv", **CHOSEN).rows == len(rows)
    read = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert dict(zip(read["image"], read["label"], strict=True)) == {key: name or "" for key, name in labels.items()}
    assert [json.loads(cell)[0] for cell in read["top_labels"]] == [row["top_labels"][0] for row in rows.values()]


def test_jsonl(run, rows, tmp_path):
    export(run, "jsonl", tmp_path / "out.jsonl", **CHOSEN)
    read = pd.read_json(tmp_path / "out.jsonl", lines=True, dtype=False).to_dict("records")
    for row in read:
        row.pop("url")
        row["error"] = None if pd.isna(row["error"]) else row["error"]
        assert row.pop("score") == pytest.approx(rows[row["image"]]["score"])
        assert row["status"] == rows[row["image"]]["status"]
        assert row["top_labels"] == rows[row["image"]]["top_labels"]
        assert (row["label"] if isinstance(row["label"], str) else None) == rows[row["image"]]["label"]
    assert [row["image"] for row in read] == list(rows)


def test_coco(run, labels, tmp_path):
    export(run, "coco", tmp_path / "out.json", **CHOSEN)
    read = COCO(str(tmp_path / "out.json"))
    names = {category["id"]: category["name"] for category in read.loadCats(read.getCatIds())}
    assert list(names.values()) == sorted(NAMES)
    found = {}
    for image in read.loadImgs(read.getImgIds()):
        annotations = read.loadAnns(read.getAnnIds(imgIds=[image["id"]]))
        found[image["file_name"]] = names[annotations[0]["category_id"]] if annotations else None
        assert [image["width"], image["height"]] == SIZE
    assert found == labels


def test_image_folder(run, labels, tmp_path):
    export(run, "imagefolder", tmp_path / "out", **CHOSEN)
    read = ImageFolder(str(tmp_path / "out"))
    names = json.loads((tmp_path / "out" / "classes.json").read_text(encoding="utf-8")) | {"_abstained": None}
    with (tmp_path / "out" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        keys = {row["file"]: row["image"] for row in csv.DictReader(file)}
    files = [(Path(path).relative_to(tmp_path / "out").as_posix(), read.classes[index]) for path, index in read.samples]
    assert {keys[path]: names[folder] for path, folder in files} == labels


@pytest.mark.slow
def test_hugging_face(run, labels, tmp_path):
    export(run, "huggingface", tmp_path / "out", **CHOSEN)
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    words = [sys.executable, "-c", READ_BACK, str(tmp_path / "out")]
    done = subprocess.run(words, env=os.environ | offline, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[key, name, SIZE] for key, name in labels.items()]


def test_fiftyone(run, labels, tmp_path):
    export(run, "fiftyone", tmp_path / "out", **CHOSEN)
    document = json.loads((tmp_path / "out" / "labels.json").read_text(encoding="utf-8"))
    keys = json.loads((tmp_path / "out" / "keys.json").read_text(encoding="utf-8"))
    assert document["classes"] == sorted(NAMES)
    assert {path.stem for path in (tmp_path / "out" / "data").iterdir()} == set(keys) == set(document["labels"])
    found = {keys[name]: None if label is None else label["label"] for name, label in document["labels"].items()}
    assert found == labels


def test_label_studio(run, rows, tmp_path):
    export(run, "labelstudio", tmp_path / "out", **CHOSEN)
    found = {}
    for task in json.loads((tmp_path / "out" / "tasks-00000.json").read_text(encoding="utf-8")):
        (prediction,) = task["predictions"]
        (found[task["data"]["key"]],) = prediction["result"][0]["value"]["choices"]
        with Image.open(tmp_path / unquote(task["data"]["image"].removeprefix(LOCAL))) as image:
            assert list(image.size) == SIZE
    assert found == {key: row["top_labels"][0] for key, row in rows.items()}
    config = ET.fromstring((tmp_path / "out" / "config.xml").read_bytes())
    assert [choice.get("value") for choice in config.iter("Choice")] == sorted(NAMES)


def test_sidecars(run, labels, tmp_path):
    export(run, "xmp", tmp_path / "out", **CHOSEN)
    found = {}
    for path in (tmp_path / "out").rglob("*.xmp"):
        about = ET.fromstring(path.read_bytes()).find(f".//{{{RDF}}}Description")
        subjects = [each.text for each in about.findall(f"{{{DC}}}subject/{{{RDF}}}Bag/{{{RDF}}}li")]
        found[about.get(f"{{{OWN}}}key")] = subjects[0] if subjects else None
    assert found == labels


def test_options_of_the_command_choose_the_same(run, rows, tmp_path):
    words = [
        "--status",
        "ok, abstained",
        "--min-score",
        "0.15",
        *(word for name in NAMES[:8] for word in ("--class", name)),
    ]
    done = fewshot("export", run.store.url(RUN), "--to", "jsonl", "--out", tmp_path / "out", *words)
    assert done.code == 0
    assert done.result["skipped"].keys() == {"status", "class", "min_score"}
    lines = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["image"] for line in lines] == list(rows)


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.name)
def test_nothing_is_chosen_and_said_so(run, tmp_path, each):
    result = export(run, each.name, tmp_path / "out", statuses=("unknown",), classes=NAMES[:1], min_score=0.5)
    assert (result.rows, result.complete, sum(result.skipped.values())) == (0, True, len(KEYS) + 1)
    assert "warning: no row meets the filters" in export_messages(result)
    assert not any("load it" in line for line in export_messages(result))
    files = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} if each.is_folder else None
    assert files == EMPTY.get(each.name)


EMPTY = {
    "imagefolder": {"predictions.csv", "classes.json", MANIFEST},
    "huggingface": {"metadata.parquet", "README.md", MANIFEST},
    "fiftyone": {"labels.json", "keys.json", MANIFEST},
    "labelstudio": {"config.xml", MANIFEST},
    "xmp": {MANIFEST},
}


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.name)
def test_a_second_export_takes_the_place_of_the_first(run, tmp_path, each):
    first = export(run, each.name, tmp_path / "out", **CHOSEN)
    few = CHOSEN | {"classes": NAMES[:1]}
    second = export(run, each.name, tmp_path / "out", **few, overwrite=True)
    export(run, each.name, tmp_path / "alone" / "out", **few)
    assert 0 < second.rows < first.rows
    assert contents(tmp_path / "out") == contents(tmp_path / "alone" / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "alone"}


def contents(place: Path) -> dict[str, bytes]:
    """Every file below a place but what names the place itself."""
    if place.is_file():
        return {"": place.read_bytes()}
    files = {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != MANIFEST}
