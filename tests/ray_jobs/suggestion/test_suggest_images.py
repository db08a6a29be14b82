"""`fewshot suggest` on outputs of all kinds."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from ray_jobs.errors import JobError
from ray_jobs.inputs.archive import open_archive
from ray_jobs.labels import LabelLedger, new_label
from ray_jobs.labels.label_table import read_answers
from ray_jobs.output.layout import LABELS
from ray_jobs.results.image_list import ImageList
from ray_jobs.suggestion.hash_sample import HashSample, SampledImage, hash_rank
from ray_jobs.suggestion.stored_lists import read_lists
from ray_jobs.suggestion.suggest_images import suggest_images
from tests.ray_jobs.place import Place, fewshot, write_table
from tests.ray_jobs.suggestion.embedded_output import write_embedded
from tests.ray_jobs.written_run import RUN, WrittenRun

DIM = 8


def keyed(count, classes=4, seed=0, noise=0.15):
    """Features by key around a direction for each class, and the classes by key."""
    rng = np.random.default_rng(seed)
    rows = np.eye(DIM)[np.arange(count) % classes] + noise * rng.normal(size=(count, DIM))
    features = {f"{index:03}.jpg": (3.0 * row).tolist() for index, row in enumerate(rows)}
    return features, {key: f"class {index % classes}" for index, key in enumerate(features)}


def answer(written: WrittenRun, *images: str, **values: object):
    """Write answers to images into the ledger of an output."""
    assert written.job.archive is not None
    archive = open_archive(written.job.archive).identity
    ledger = LabelLedger(type(written.store)(written.store.url(LABELS)))
    event = {"by": "someone", "archive": archive, "answer": "label", "label": "class 0", "reason": "review"} | values
    ledger.append([new_label(image=image, **event) for image in images])


def suggested(written: WrittenRun, count: int) -> ImageList:
    return suggest_images(written.store.url(RUN), count)[1]


def test_without_any_label_regions_are_covered(tmp_path):
    features, classes = keyed(40)
    found = suggested(write_embedded(tmp_path, features), 4)
    assert {classes[image.image] for image in found.images} == set(classes.values())
    assert {image.reason for image in found.images} == {"unseen region"}
    assert (found.labelled, found.considered, found.run) == (0, 40, RUN)


def test_doubtful_images_are_named_as_such(tmp_path):
    features, classes = keyed(40)
    scores = {key: (label, 0.2 if label == "class 2" else 0.95) for key, label in classes.items()}
    found = suggested(write_embedded(tmp_path, features, predictions=scores), 3)
    assert found.images[0].reason == "doubtful"
    assert (found.images[0].label, found.images[0].score) == ("class 2", pytest.approx(0.2))


def test_answered_images_and_their_like_are_not_suggested(tmp_path):
    features, _ = keyed(12)
    features |= {"twin.jpg": features["000.jpg"]}
    written = write_embedded(tmp_path, features)
    answer(written, "000.jpg")
    answer(written, "001.jpg", answer="skipped", label=None)
    found = suggested(written, 20)
    assert {"000.jpg", "001.jpg", "twin.jpg"}.isdisjoint(image.image for image in found.images)
    assert found.labelled == 2
    assert "near-duplicates" in found.notices[0]


def test_rare_classes_of_the_ledger_are_hunted(tmp_path):
    features, classes = keyed(120)
    predictions = {key: (label, 0.9) for key, label in classes.items()}
    written = write_embedded(tmp_path, features, predictions=predictions)
    for index in range(24):
        key = f"{index:03}.jpg"
        if classes[key] != "class 3" or index == 3:
            answer(written, key, label=classes[key])
    found = suggested(written, 12)
    hunted = [image for image in found.images if image.reason not in ("unseen region", "doubtful")]
    assert {image.reason for image in hunted} == {"rare class: class 3"}
    assert {classes[image.image] for image in hunted} == {"class 3"}


def test_unreadable_images_are_left_out(tmp_path):
    features, _ = keyed(8)
    found = suggested(write_embedded(tmp_path, features | {"broken.jpg": None}), 20)
    assert found.considered == 8
    assert "broken.jpg" not in {image.image for image in found.images}


def test_an_archive_without_a_readable_image_has_no_suggestion(tmp_path):
    found = suggested(write_embedded(tmp_path, {"a.jpg": None, "b.jpg": None}), 5)
    assert (found.images, found.considered) == ((), 0)


def test_of_duplicates_alone_one_is_suggested(tmp_path):
    found = suggested(write_embedded(tmp_path, {f"{i}.jpg": [1.0, 2.0] for i in range(9)}), 5)
    assert len(found.images) == 1
    assert found.notices[0].startswith("1 of 5 images are suggested, of 9")


def test_images_of_a_tar_have_their_places(tmp_path):
    features, _ = keyed(6)
    found = suggested(write_embedded(tmp_path, features, kind="tar"), 2)
    assert {image.source for image in found.images} == {"all.tar"}
    assert all(f"{image.row:03}.jpg" == image.image for image in found.images)


def test_suggestions_are_the_same_again(tmp_path):
    features, _ = keyed(30)
    written = write_embedded(tmp_path, features)
    assert suggested(written, 7) == suggested(written, 7)


def test_a_sample_is_that_of_the_lowest_hashes():
    images = [SampledImage(f"{i}.jpg", "", "shard", i, None, None, 1.0) for i in range(300)]
    features = np.arange(300, dtype=np.float32)[:, None]
    sample = HashSample(20)
    for start in range(0, 300, 7):
        sample.offer(images[start : start + 7], features[start : start + 7])
    drawn, rows = sample.drawn()
    assert drawn == sorted(images, key=lambda image: hash_rank(image.image))[:20]
    assert rows[:, 0].tolist() == [image.row for image in drawn]
    assert sample.seen == 300


def test_the_command_stores_a_list_and_writes_a_table(tmp_path):
    features, classes = keyed(30)
    predictions = {key: (label, 0.5) for key, label in classes.items()}
    written = write_embedded(tmp_path, features, predictions=predictions)
    table = tmp_path / "list.csv"
    done = fewshot("suggest", written.store.url(RUN), "--n", 5, "--csv", table)
    assert done.code == 0
    (stored,) = read_lists(written.store).values()
    assert stored.to_json() | {"stored": done.result["stored"], "table": str(table)} == done.result
    rows = list(csv.DictReader(table.open()))
    assert [row["image"] for row in rows] == [image.image for image in stored.images]
    assert rows[0]["url"] == str(tmp_path / "archive" / rows[0]["image"])
    assert "why" in done.messages


def test_a_table_of_suggestions_can_be_filled_in_and_imported(tmp_path):
    features, _ = keyed(6)
    table = tmp_path / "list.csv"
    fewshot("suggest", write_embedded(tmp_path, features).store.url(RUN), "--n", 3, "--csv", table)
    assert read_answers(str(table)) == ([], 3)  # Predictions are not taken for answers.
    rows = list(csv.DictReader(table.open()))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"label": "amber"} for row in rows)
    answers, unanswered = read_answers(str(table))
    assert ([each.image for each in answers], unanswered) == ([row["image"] for row in rows], 0)
    assert {(each.label, each.reason) for each in answers} == {("amber", "suggestion")}


def test_a_table_that_exists_is_kept(tmp_path):
    features, _ = keyed(5)
    written = write_embedded(tmp_path, features)
    (tmp_path / "list.csv").write_text("mine")
    done = fewshot("suggest", written.store.root, "--csv", tmp_path / "list.csv")
    assert done.code == 2
    assert "exists" in done.messages
    assert (tmp_path / "list.csv").read_text() == "mine"


def test_a_list_that_was_changed_is_refused(tmp_path):
    features, _ = keyed(5)
    written = write_embedded(tmp_path, features)
    path = fewshot("suggest", written.store.root).result["stored"].removeprefix(f"{written.store.root}/")
    written.store.put(path, written.store.get(path).replace(b'"requested": 60', b'"requested": 61'))
    with pytest.raises(JobError, match="damaged"):
        read_lists(written.store)


def test_lists_are_verified(finished):
    stored = fewshot("suggest", finished.output).result["stored"]
    before = fewshot("verify", finished.output)
    assert before.code == 0
    content = Path(stored).read_bytes()
    Path(stored).write_bytes(content.replace(b'"suggestion"', b'"suggestiom"'))
    try:
        damaged = [each["path"] for run in fewshot("verify", finished.output).result["runs"] for each in run["damaged"]]
    finally:
        Path(stored).write_bytes(content)
    assert damaged == [stored]


def test_an_output_without_features_is_named(tmp_path):
    features, _ = keyed(5)
    written = write_embedded(tmp_path, features)
    for path in list(written.store.list("features")):
        written.store.delete(path)
    done = fewshot("suggest", written.store.root)
    assert done.code == 2
    assert "has no features" in done.messages


def test_a_damaged_part_is_named_and_stays(tmp_path):
    features, _ = keyed(5)
    written = write_embedded(tmp_path, features)
    (path,) = written.store.list("features")
    written.store.put(path, written.store.get(path)[:-1])
    done = fewshot("suggest", written.store.root)
    assert done.code == 2
    assert "is damaged" in done.messages
    assert written.store.exists(path)


def test_a_place_without_a_run_is_named(tmp_path):
    done = fewshot("suggest", tmp_path)
    assert done.code == 2
    assert "no job has run" in done.messages


@pytest.mark.parametrize("command", [("suggest",), ("search", "--image", "archive/photo_003.jpg")])
def test_the_job_file_chooses_among_the_jobs_of_an_output(tmp_path, tiny_clip, command):
    place = Place(tmp_path, tiny_clip).fill()
    first = place.classify()
    assert first.code == place.classify("job.name=other").code == 0
    name, *query = (str(tmp_path / word) if "/" in word else word for word in command)
    several = fewshot(name, place.output, *query)
    assert (several.code, "Name a job file" in several.messages) == (2, True)
    chosen = fewshot(name, place.job, *query)
    assert chosen.code == 0, chosen.messages
    assert chosen.result["run"] == f"runs/{first.run.name}"


def test_examples_of_a_job_count_as_covered(finished):
    found = fewshot("suggest", finished.output).result
    assert found["labelled"] == 6
    assert found["considered"] == 18
    assert found["notices"] == [] or "near-duplicates" in found["notices"][0]


def test_images_that_were_learned_from_are_covered(tmp_path, tiny_clip):
    place = Place(tmp_path, tiny_clip).fill()
    assert place.classify().code == 0
    answers = write_table(tmp_path / "answers.csv", [("photo_003.jpg", "amber"), ("photo_004.jpg", "blue")])
    assert fewshot("labels", "import", place.output, answers).code == 0
    before = fewshot("suggest", place.output).result
    assert place.classify("support.labels=true").code == 0
    after = fewshot("suggest", place.output).result
    assert [found["labelled"] for found in (before, after)] == [8, 8]
    assert {"photo_003.jpg", "photo_004.jpg"}.isdisjoint(image["image"] for image in after["images"])


def test_examples_that_are_gone_are_said_to_be(finished, tmp_path):
    moved = finished.examples.rename(tmp_path / "moved")
    try:
        found = fewshot("suggest", finished.output).result
    finally:
        moved.rename(finished.examples)
    assert found["labelled"] == 0
    assert "The examples cannot be read" in found["notices"][0]
