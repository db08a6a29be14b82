"""`fewshot labels`: import into the ledger, export from it, and learn from it."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from fewshot.errors import DataError
from ray_jobs.labels.label_table import read_answers
from ray_jobs.labels.labelled_archive import LabelledArchive
from tests.ray_jobs.place import CLASSES, Place, fewshot


@pytest.fixture
def labelled(finished: Place, tmp_path: Path) -> Place:
    """A copy of the finished place, to write labels in."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    place = Place(tmp_path / "copy", finished.clip)
    place.write_job()
    assert place.classify().code == 0
    return place


def write_answers(folder: Path, rows: dict[str, str], header: str = "image,label") -> Path:
    table = folder / "answers.csv"
    table.write_text("\n".join([header, *(f"{image},{label}" for image, label in rows.items())]) + "\n")
    return table


def test_imported_labels_are_learned_from(labelled: Place) -> None:
    table = write_answers(labelled.folder, {"photo_000.jpg": "amber", "photo_001.jpg": "blue"})
    result = fewshot("labels", "import", str(labelled.output), str(table))
    assert (result.code, result.result["written"]) == (0, 2)
    labelled.write_job(support={"labels": True})
    plan = fewshot("plan", str(labelled.job), "--no-probe")
    assert plan.result["examples"] == 2 * len(CLASSES) + 2
    assert labelled.classify().code == 0
    again = fewshot("labels", "import", str(labelled.output), str(table))
    assert (again.result["written"], again.result["known"]) == (0, 2)


def test_labels_may_add_a_class(labelled: Place) -> None:
    table = write_answers(labelled.folder, {"photo_000.jpg": "red"})
    fewshot("labels", "import", str(labelled.output), str(table))
    labelled.write_job(support={"labels": f"{labelled.output}/labels"})
    assert labelled.classify().code == 0
    classifier = LabelledArchive.open(str(labelled.output)).run.plan.classes
    assert classifier == len(CLASSES) + 1


def test_images_that_are_not_there_or_unreadable_are_told_and_not_labelled(labelled: Place) -> None:
    table = write_answers(labelled.folder, {"photo_999.jpg": "amber", "photo_000.jpg": "blue", "photo_001.jpg": ""})
    (labelled.archive / "photo_000.jpg").unlink()
    result = fewshot("labels", "import", str(labelled.output), str(table))
    assert (result.code, result.result["written"], result.result["unanswered"]) == (1, 0, 1)
    assert result.result["not_found"] == ["photo_999.jpg"]
    assert result.result["unreadable"][0].startswith("photo_000.jpg: ")
    assert not LabelledArchive.open(str(labelled.output)).ledger.events()


def test_a_label_without_its_copy_stops_the_job(labelled: Place) -> None:
    table = write_answers(labelled.folder, {"photo_000.jpg": "amber"})
    fewshot("labels", "import", str(labelled.output), str(table))
    shutil.rmtree(labelled.output / "labels" / "images")
    labelled.write_job(support={"labels": True})
    result = labelled.classify()
    assert result.code == 2
    assert "1 of 1 labelled images have no copy" in result.messages


def test_members_of_a_tar_are_learned_from(labelled: Place, tmp_path: Path) -> None:
    tar = shutil.make_archive(str(tmp_path / "photos"), "tar", labelled.archive)
    labelled.write_job(archive={"uri": tar}, job={"output": str(tmp_path / "of_tar")})
    assert labelled.classify().code == 0
    images = LabelledArchive.open(str(tmp_path / "of_tar")).run.predictions()["image"].to_pylist()
    chosen = {next(key for key in images if key.endswith(name)): "amber" for name in ("photo_004.jpg", "text.jpg")}
    result = fewshot("labels", "import", str(tmp_path / "of_tar"), str(write_answers(tmp_path, chosen)))
    assert (result.result["written"], result.result["unreadable_count"]) == (1, 1)
    labelled.write_job(archive={"uri": tar}, job={"output": str(tmp_path / "of_tar")}, support={"labels": True})
    assert labelled.classify().code == 0


def test_an_exported_table_can_be_imported(labelled: Place, tmp_path: Path) -> None:
    header = "image,label,answer,by"
    table = write_answers(labelled.folder, {"photo_000.jpg": "amber,,bob", "photo_001.jpg": ",unknown,bob"}, header)
    fewshot("labels", "import", str(labelled.output), str(table))
    exported = tmp_path / "exported.csv"
    result = fewshot("labels", "export", str(labelled.output), str(exported))
    assert (result.code, result.result["labels"]) == (0, 2)
    rows = list(csv.DictReader(exported.open()))
    assert [(row["image"], row["label"], row["answer"], row["by"]) for row in rows] == [
        ("photo_000.jpg", "amber", "label", "bob"),
        ("photo_001.jpg", "", "unknown", "bob"),
    ]
    assert fewshot("labels", "import", str(labelled.output), str(exported)).result["known"] == 2
    again = fewshot("labels", "export", str(labelled.output), str(exported))
    assert again.code == 2
    assert "exists; name another file" in again.messages


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("image,name\na.jpg,cat\n", "no column label; found image, name"),
        ("image,label,answer\na.jpg,,maybe\n", "answer 'maybe': expected one of label, unknown"),
        ("image,label,answer\na.jpg,,label\n", "the answer is a label, and there is none"),
        ("image,label\na.jpg,cat\na.jpg,dog\n", "line 3: a.jpg has another answer than in line 2"),
        ("image,label,reason\na.jpg,cat,audit\n", "draw and the probability"),
        ("image,label,probability\na.jpg,cat,half\n", "could not convert"),
        ("image,label\n,cat\n", "no image"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    table = tmp_path / "answers.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=problem):
        read_answers(str(table))
