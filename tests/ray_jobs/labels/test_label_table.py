"""`fewshot labels`: import into the ledger, export from it, and learn from it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from fewshot.errors import DataError
from ray_jobs.inputs.examples import learned_ledger, support_labels
from ray_jobs.labels import LabelEvent
from ray_jobs.labels.kept_images import kept_path
from ray_jobs.labels.label_table import read_answers
from ray_jobs.labels.labelled_archive import LabelledArchive
from ray_jobs.output.predictions import original_name
from ray_jobs.report.pictures import example_pictures
from tests.ray_jobs.place import CLASSES, Place, fewshot, picture, put


def write_answers(folder: Path, rows: dict[str, str], header: str = "image,label") -> Path:
    table = folder / "answers.csv"
    table.write_text("\n".join([header, *(f"{image},{label}" for image, label in rows.items())]) + "\n")
    return table


def test_imported_labels_are_learned_from(copied: Place) -> None:
    table = write_answers(copied.folder, {"photo_000.jpg": "amber", "photo_001.jpg": "blue"})
    result = fewshot("labels", "import", str(copied.output), str(table))
    assert (result.code, result.result["written"]) == (0, 2)
    copied.write_job(support={"labels": True})
    plan = fewshot("plan", str(copied.job), "--no-probe")
    assert plan.result["examples"] == 2 * len(CLASSES) + 2
    assert copied.classify().code == 0
    again = fewshot("labels", "import", str(copied.output), str(table))
    assert (again.result["written"], again.result["known"]) == (0, 2)


def test_a_job_file_means_the_run_of_its_job(copied: Place) -> None:
    table = write_answers(copied.folder, {"photo_000.jpg": "amber"})
    copied.write_job(job={"name": "other"})
    assert copied.classify().code == 0
    result = fewshot("labels", "import", str(copied.output), str(table))
    assert (result.code, "several jobs" in result.messages) == (2, True)
    assert fewshot("labels", "import", str(copied.job), str(table)).result["written"] == 1
    (event,) = LabelledArchive.open(str(copied.output), job="other").ledger.events()
    assert isinstance(event, LabelEvent)
    assert event.predicted is not None
    assert event.predicted.run.startswith("other-")


def test_labels_may_add_a_class(copied: Place) -> None:
    table = write_answers(copied.folder, {"photo_000.jpg": "red"})
    fewshot("labels", "import", str(copied.output), str(table))
    copied.write_job(support={"labels": f"{copied.output}/labels"})
    assert copied.classify().code == 0
    archive = LabelledArchive.open(str(copied.output))
    assert archive.run.plan.classes == len(CLASSES) + 1
    assert archive.job.support is not None
    examples = support_labels(archive.job.support, ledger=learned_ledger(archive.job, archive.store))
    assert set(example_pictures(examples, ["red", "amber"])) == {"red", "amber"}


def test_images_that_are_not_there_or_unreadable_are_told_and_not_labelled(copied: Place) -> None:
    table = write_answers(copied.folder, {"photo_999.jpg": "amber", "photo_000.jpg": "blue", "photo_001.jpg": ""})
    (copied.archive / "photo_000.jpg").unlink()
    result = fewshot("labels", "import", str(copied.output), str(table))
    assert (result.code, result.result["written"], result.result["unanswered"]) == (1, 0, 1)
    assert result.result["not_found"] == ["photo_999.jpg"]
    assert result.result["unreadable"][0].startswith("photo_000.jpg: ")
    assert not LabelledArchive.open(str(copied.output)).ledger.events()


def test_a_label_without_its_copy_stops_the_job(copied: Place) -> None:
    table = write_answers(copied.folder, {"photo_000.jpg": "amber"})
    fewshot("labels", "import", str(copied.output), str(table))
    shutil.rmtree(copied.output / "labels" / "images")
    copied.write_job(support={"labels": True})
    result = copied.classify()
    assert result.code == 2
    assert "1 of 1 labelled images have no copy" in result.messages


def test_a_place_without_labels_is_refused(copied: Place, tmp_path: Path) -> None:
    copied.write_job(support={"labels": True})
    assert fewshot("plan", str(copied.job), "--no-probe").code == 0
    table = write_answers(copied.folder, {"photo_000.jpg": "amber"})
    fewshot("labels", "import", str(copied.output), str(table))
    for place, problem in (
        ("true", "no labels in"),
        (str(tmp_path / "nothing"), "no labels in"),
        (str(table), str(table)),
    ):
        copied.write_job(support={"labels": place})
        result = fewshot("plan", str(copied.job), "--no-probe")
        assert result.code == 2
        assert f"error: [support] labels: {problem}" in result.messages
        assert "expected true, for the labels in the job's own output" in result.messages
    copied.write_job(support={"labels": str(copied.output)})
    assert "its folder labels is meant" in fewshot("plan", str(copied.job), "--no-probe").messages


def test_labels_that_contradict_examples_say_how_to_replace_them(copied: Place) -> None:
    put(copied.archive / "same.jpg", (copied.examples / "amber" / "0.jpg").read_bytes())
    copied.classify()
    fewshot("labels", "import", str(copied.output), str(write_answers(copied.folder, {"same.jpg": "blue"})))
    copied.write_job(support={"labels": True})
    result = fewshot("plan", str(copied.job), "--no-probe")
    assert ":same.jpg (blue)" in result.messages
    assert "replaced by importing its image with another one, or with the answer unknown" in result.messages
    answers = write_answers(copied.folder, {"same.jpg": ",unknown"}, "image,label,answer")
    fewshot("labels", "import", str(copied.output), str(answers))
    assert fewshot("plan", str(copied.job), "--no-probe").code == 0
    fewshot("labels", "import", str(copied.output), str(write_answers(copied.folder, {"same.jpg": "Amber"})))
    result = fewshot("plan", str(copied.job), "--no-probe")
    assert "'Amber' and 'amber' differ only in case" in result.messages
    assert "replaced by importing" in result.messages


def test_members_of_a_tar_are_learned_from(copied: Place, tmp_path: Path) -> None:
    tar = shutil.make_archive(str(tmp_path / "photos"), "tar", copied.archive)
    copied.write_job(archive={"uri": tar}, job={"output": str(tmp_path / "of_tar")})
    assert copied.classify().code == 0
    images = LabelledArchive.open(str(tmp_path / "of_tar")).run.predictions()["image"].to_pylist()
    chosen = {next(key for key in images if key.endswith(name)): "amber" for name in ("photo_004.jpg", "text.jpg")}
    result = fewshot("labels", "import", str(tmp_path / "of_tar"), str(write_answers(tmp_path, chosen)))
    assert (result.result["written"], result.result["unreadable_count"]) == (1, 1)
    copied.write_job(archive={"uri": tar}, job={"output": str(tmp_path / "of_tar")}, support={"labels": True})
    assert copied.classify().code == 0


def test_an_exported_table_can_be_imported(copied: Place, tmp_path: Path) -> None:
    header = "image,label,answer,by"
    table = write_answers(copied.folder, {"photo_000.jpg": "amber,,bob", "photo_001.jpg": ",unknown,bob"}, header)
    fewshot("labels", "import", str(copied.output), str(table))
    exported = tmp_path / "exported.csv"
    result = fewshot("labels", "export", str(copied.output), str(exported))
    assert (result.code, result.result["labels"]) == (0, 2)
    rows = list(csv.DictReader(exported.open()))
    assert [(row["image"], row["label"], row["answer"], row["by"]) for row in rows] == [
        ("photo_000.jpg", "amber", "label", "bob"),
        ("photo_001.jpg", "", "unknown", "bob"),
    ]
    assert fewshot("labels", "import", str(copied.output), str(exported)).result["known"] == 2
    again = fewshot("labels", "export", str(copied.output), str(exported))
    assert again.code == 2
    assert "exists; name another file" in again.messages


def test_an_export_names_images_on_which_people_disagree(copied: Place, tmp_path: Path) -> None:
    for by, label in (("ann", "amber"), ("bob", "blue")):
        table = write_answers(tmp_path, {"photo_000.jpg": label, "photo_001.jpg": "blue"})
        fewshot("labels", "import", str(copied.output), str(table), "--by", by)
    result = fewshot("labels", "export", str(copied.output), str(tmp_path / "exported.csv"))
    assert result.result["disputed"] == 1
    assert "on 1 of them people disagree: photo_000.jpg; the latest answer counts" in result.messages


def test_answers_that_add_nothing_are_passed_over(copied: Place, tmp_path: Path) -> None:
    table, skipped = write_answers(copied.folder, {"photo_000.jpg": "amber"}), tmp_path / "skipped.csv"
    skipped.write_text("image,answer\nphoto_000.jpg,skipped\n")
    fewshot("labels", "import", str(copied.output), str(table))
    assert fewshot("labels", "import", str(copied.output), str(skipped)).result["known"] == 1
    other = write_answers(tmp_path, {"photo_000.jpg": "ambr"})
    result = fewshot("labels", "import", str(copied.output), str(other))
    assert (result.result["replaced"], result.result["new_classes"]) == (1, ["ambr"])
    assert "the run does not have 1 of the classes: ambr" in result.messages
    assert "1 of them replaces a different answer" in result.messages


def test_importing_again_makes_lost_copies_anew(copied: Place) -> None:
    table = write_answers(copied.folder, {"photo_000.jpg": "amber", "photo_001.jpg": "blue"})
    assert fewshot("labels", "import", str(copied.output), str(table)).result["copied"] == 2
    shutil.rmtree(copied.output / "labels" / "images")
    result = fewshot("labels", "import", str(copied.output), str(table)).result
    assert (result["written"], result["known"], result["copied"]) == (0, 2, 2)
    copied.write_job(support={"labels": True})
    assert fewshot("plan", str(copied.job), "--no-probe").code == 0


def test_a_changed_image_is_learned_from_as_it_was_labelled_last(copied: Place) -> None:
    first = write_answers(copied.folder, {"photo_000.jpg": "amber"})
    fewshot("labels", "import", str(copied.output), str(first))
    put(copied.archive / "photo_000.jpg", new := picture("blue", 3000))
    assert copied.classify().code == 0
    assert fewshot("labels", "import", str(copied.output), str(first)).result["known"] == 1
    second = write_answers(copied.folder, {"photo_000.jpg": "blue"})
    result = fewshot("labels", "import", str(copied.output), str(second)).result
    assert (result["replaced"], result["copied"]) == (1, 1)
    ledger = LabelledArchive.open(str(copied.output)).ledger
    (event,) = ledger.current().answers.values()
    assert ledger.store.get(kept_path(event)) == new
    copied.write_job(support={"labels": True}, archive={"labels": str(copied.truth)})
    outcome = copied.classify()
    assert (outcome.code, outcome.result["given_labels"]["learned_from"]) == (0, 1)
    assert fewshot("verify", str(copied.output)).code == 0


def test_answers_of_an_audit_survive_export_and_correction(copied: Place, tmp_path: Path) -> None:
    header = "image,label,reason,draw,probability"
    audit = write_answers(copied.folder, {"photo_000.jpg": "amber,audit,d1,0.25"}, header)
    fewshot("labels", "import", str(copied.output), str(audit))
    exported = tmp_path / "exported.csv"
    fewshot("labels", "export", str(copied.output), str(exported))
    answers, _ = read_answers(str(exported))
    assert [(each.reason, each.draw, each.probability) for each in answers] == [("audit", "d1", 0.25)]
    fewshot("labels", "import", str(copied.output), str(write_answers(tmp_path, {"photo_000.jpg": "blue"})))
    assert fewshot("labels", "import", str(copied.output), str(audit)).result["known"] == 1


NAMES = (
    " lead.jpg",
    "trail.jpg ",
    "a%2Fb.jpg",
    "a/b.jpg",
    "a\\b.jpg",
    "a\nb.jpg",
    "data:image.jpg",
    "a b.jpg",
    "a%20b.jpg",
)


def test_names_that_could_be_other_references_are_copied_as_they_are(copied: Place, tmp_path: Path) -> None:
    contents = {name: picture("amber", 2000 + number) for number, name in enumerate(NAMES)}
    for name, data in contents.items():
        put(copied.archive / name, data)
    keys = [key for key in copied.classify().rows if not key.startswith(("photo", "broken"))]
    assert len(keys) == len(NAMES)
    table = tmp_path / "answers.jsonl"
    table.write_text("".join(json.dumps({"image": key, "label": "amber"}) + "\n" for key in keys))
    result = fewshot("labels", "import", str(copied.output), str(table)).result
    assert (result["written"], result["unreadable"]) == (len(NAMES), [])
    archive = LabelledArchive.open(str(copied.output))
    events = archive.ledger.current().of_archive(archive.source.identity)
    assert sorted(events) == sorted(keys)
    for key, event in events.items():
        assert archive.ledger.store.get(kept_path(event)) == contents[original_name(key)]
    exported = tmp_path / "exported.csv"
    fewshot("labels", "export", str(copied.output), str(exported))
    assert fewshot("labels", "import", str(copied.output), str(exported)).result["known"] == len(NAMES)


def test_cells_that_are_no_text_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "answers.jsonl"
    table.write_text(json.dumps({"image": "\ud800.jpg", "label": "cat"}))
    with pytest.raises(DataError, match="image has characters that are no text"):
        read_answers(str(table))


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
        ("image,label,reason\na.jpg,cat,planted\n", "reason 'planted': expected one of audit"),
        ("image,label\na.jpg,-1\n", "label '-1': images without a label"),
        ("image,label\na.jpg,../cat\n", "looks like a path"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    table = tmp_path / "answers.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=problem):
        read_answers(str(table))


def test_verify_reads_the_ledger_and_removes_nothing_of_it(copied: Place) -> None:
    whole = fewshot("verify", copied.output)
    assert (whole.code, "ledger" in whole.result) == (0, False)
    table = write_answers(copied.folder, {"photo_000.jpg": "amber", "photo_001.jpg": "blue"})
    fewshot("labels", "import", str(copied.output), str(table))
    checked = fewshot("verify", copied.output)
    assert (checked.code, checked.result["ledger"]) == (0, {"batches": 1, "labels": 2, "damaged": []})
    assert "and a ledger of 2 labels: all as they were written" in checked.messages
    (batch,) = (copied.output / "labels" / "events").iterdir()
    next((copied.output / "labels" / "images").iterdir()).unlink()
    without_copy = fewshot("verify", copied.output)
    assert without_copy.code == 1
    assert "there is no copy of photo_00" in without_copy.result["ledger"]["damaged"][0]["problem"]
    batch.write_bytes(batch.read_bytes().replace(b"amber", b"black"))
    damaged = fewshot("verify", copied.output)
    assert damaged.code == 1
    assert "its content does not match its digest; restore it from a copy" in damaged.messages
    copied.classify()
    assert batch.exists()
