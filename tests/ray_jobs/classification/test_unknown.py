"""`classifier.unknown`: images of no class have no label, at a stated rate of images of the classes that are lost."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from PIL import Image

import fewshot as library
from ray_jobs.errors import JobError
from ray_jobs.output.predictions import prediction_schema
from tests.ray_jobs.classification.test_stored_classifier import write_job
from tests.ray_jobs.place import BROKEN, CLASSES, Place, fewshot, parts_of_run, picture, put, write_table, written
from tests.ray_jobs.verification.test_verify import contents, damaged, flip
from tests.strange_files import encode

pytestmark = pytest.mark.slow

FOREIGN = ("white", "black", "stripes")
TESTED = ("classifier.unknown=true", "classifier.unknown_rate=0.1")


def foreign_picture(index):
    """A picture unlike all photographs of the classes."""
    pixels = np.full((48, 40, 3), 255 * (index % 2), np.uint8)
    if index % 3 == 2:
        pixels[::2] = 255 - pixels[::2]
    return encode(Image.fromarray(pixels), "PNG")


@pytest.fixture(scope="module")
def tested(tmp_path_factory, tiny_clip):
    """Five examples a class; an archive with broken, foreign and copied images; a job that tests them, done."""
    place = Place(tmp_path_factory.mktemp("tested"), tiny_clip).fill(shots=5)
    for index, name in enumerate(FOREIGN):
        put(place.archive / f"{name}.png", foreign_picture(index))
    shutil.copy(place.examples / "blue/0.jpg", place.archive / "copy.jpg")
    truth = [line.split(",") for line in place.truth.read_text().splitlines()[1:]]
    write_table(place.truth, [*truth, *((f"{name}.png", "nothing") for name in FOREIGN)])
    place.write_job(archive={"labels": str(place.truth)}, classifier={"unknown": True, "unknown_rate": 0.1})
    assert place.classify().code == 0
    return place


def features_of(paths):
    """Return image -> deterministic feature as float64, of parts of features; without those that were not read."""
    found = {}
    for path in paths:
        table = pq.read_table(path)
        views = int(table.schema.metadata[b"views"])
        for row in table.to_pylist():
            if row["error"] is None:
                found[row["image"]] = np.reshape(row["features"], (views, -1))[0].astype(np.float64)
    return found


def plain_p_values(outcome):
    """Return image -> p-value, from the stored features by the definition."""
    images = features_of(parts_of_run(outcome.run, "features"))
    examples = list(features_of(parts_of_run(outcome.run, "example_parts")).values())
    found = {}
    for name, image in images.items():
        rows = np.stack([*examples, image])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = rows @ rows.T
        np.fill_diagonal(cosines, -1.0)
        scores = cosines.max(axis=1)
        found[name] = int((scores <= scores[-1] + 1e-9).sum()) / len(rows)
    return found


def test_images_far_from_all_examples_are_unknown(tested):
    outcome = tested.classify()
    expected = plain_p_values(outcome)
    assert expected.keys() == outcome.rows.keys() - BROKEN.keys()
    assert ds.dataset(outcome.parts).schema.equals(prediction_schema(unknown=True))
    for image, row in outcome.rows.items():
        assert row["unknown_p_value"] == expected.get(image), image
        is_unknown = expected.get(image, 1.0) <= 0.1
        assert row["status"] == ("unreadable" if image in BROKEN else "unknown" if is_unknown else "ok")
        assert (row["label"] is None) == (is_unknown or image in BROKEN)
        assert (row["top_labels"] is None) == (row["score"] is None) == (image in BROKEN)
    assert {outcome.rows[f"{name}.png"]["status"] for name in FOREIGN} == {"unknown"}
    assert outcome.rows["copy.jpg"]["unknown_p_value"] == 1.0


def test_counts_tell_unknown_images_apart(tested):
    outcome = tested.classify()
    status = Counter(row["status"] for row in outcome.rows.values())
    result = outcome.result
    assert (result["ok"], result["abstained"], result["unreadable"]) == (status["ok"], 0, len(BROKEN))
    labelled = {image: row for image, row in outcome.rows.items() if row["status"] == "ok"}
    metrics = json.loads((outcome.run / "metrics.json").read_text())
    assert metrics["labels"] == Counter(row["label"] for row in labelled.values())
    assert result["mean_score"] == pytest.approx(np.mean([row["score"] for row in labelled.values()]))
    assert sum(metrics["score_histogram"]["ok"]) == len(labelled)
    lost = sum(outcome.rows[f"photo_{index:03}.jpg"]["status"] == "unknown" for index in range(18))
    assert result["unknown"] == {
        "images": status["unknown"],
        "rate": 0.1,
        "examples": 15,
        "needed": 9,
        "measured": {"known_images": 18, "known_lost": lost / 18, "other_images": 3, "others_found": 1.0},
    }
    assert result["measured"]["labelled_images"] == 18
    assert result["measured"]["coverage"] == pytest.approx(1.0 - lost / 18)
    (row,) = [line for line in outcome.messages.splitlines() if " unknown " in line and "%" in line and "│" in line]
    assert str(status["unknown"]) in row
    assert "100.0 % of 3 images of other classes are unknown" in " ".join(outcome.messages.split())


def test_the_test_trains_nothing_and_changes_no_score(tested, tmp_path):
    place = Place(tmp_path, tested.clip)
    shutil.copytree(tested.folder, tmp_path, dirs_exist_ok=True)
    place.write_job(archive={"labels": str(place.truth)})
    shutil.rmtree(place.output)
    plain = place.classify()
    before = written(place.output / "classifiers")
    outcome = place.classify(*TESTED)
    after = written(place.output / "classifiers")
    assert before.items() <= after.items()
    assert {Path(name).name for name in after.keys() - before.keys()} == {"unknown.safetensors"}
    assert "unknown" not in plain.result
    assert "unknown" not in (plain.run / "plan.json").read_text()
    assert "unknown" not in (plain.run / "job.toml").read_text()
    for image, row in plain.rows.items():
        same = {name: value for name, value in outcome.rows[image].items() if name in row}
        if outcome.rows[image]["status"] == "unknown":
            assert row["status"] == "ok"
            same |= {"status": "ok", "label": row["label"]}
        assert same == row
    assert place.classify("classifier.unknown=false").result["did"] == "nothing"


def test_p_values_depend_on_neither_shards_nor_the_method(tested, tmp_path):
    expected = {image: row["unknown_p_value"] for image, row in tested.classify().rows.items()}
    for number, settings in enumerate([["archive.shard_images=1"], ["classifier.method=safe"]]):
        outcome = tested.classify(*settings, f"job.output={tmp_path / str(number)}")
        assert {image: row["unknown_p_value"] for image, row in outcome.rows.items()} == expected


def test_another_rate_tests_the_same_images_anew(tested):
    first, second = tested.classify(), tested.classify("classifier.unknown_rate=0.3")
    assert second.run != first.run
    for image, row in second.rows.items():
        assert row["unknown_p_value"] == first.rows[image]["unknown_p_value"]
        assert (row["status"] == "unknown") == ((row["unknown_p_value"] or 1.0) <= 0.3)
    assert second.result["unknown"]["images"] > first.result["unknown"]["images"]


def test_a_lost_file_is_made_anew_with_the_same_bytes(tested):
    outcome, before = tested.classify(), contents(tested.output)
    (file,) = tested.output.glob("classifiers/*/*/unknown.safetensors")
    outcome.parts[0].unlink()
    flip(file)
    assert tested.classify().code == 0
    assert contents(tested.output) == before
    outcome.parts[0].unlink()
    file.unlink()
    assert tested.classify().code == 0
    assert contents(tested.output) == before


@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_verify_reads_the_examples_beside_the_classifier(tested, harm):
    run, before = tested.classify().run, contents(tested.output)
    (file,) = tested.output.glob("classifiers/*/*/unknown.safetensors")
    harm(file)
    outcome = fewshot("verify", run)  # Of all runs, any one that shares the file could be told to make it anew.
    assert (outcome.code, damaged(outcome)) == (1, {str(file)})
    assert tested.classify().code == 0
    assert contents(tested.output) == before
    assert fewshot("verify", tested.output).code == 0


def test_too_few_examples_are_told_before_any_work(place):
    settings = ("classifier.unknown=true",)
    words = [word for setting in settings for word in ("--set", setting)]
    expected = (
        "unknown_rate = 0.05 needs at least 19 examples, and there are 6: no image can be unknown. Add examples, or"
        " raise unknown_rate to 0.15."
    )
    plan = fewshot("plan", place.job, "--no-probe", *words)
    assert plan.code == 0
    assert expected in plan.result["warnings"]
    assert "takes at least 19" not in plan.messages
    outcome = place.classify(*settings)
    told = " ".join(outcome.messages.split())
    assert f"warning: {expected}" in told
    assert "No image can be unknown: unknown_rate = 0.05 takes at least 19 examples, and there are 6." in told
    assert (outcome.code, outcome.result["unknown"]["images"]) == (0, 0)


def test_plan_tells_what_the_test_may_lose(place):
    settings = ("--set", "classifier.unknown=true", "--set", "classifier.unknown_rate=0.3")
    plan = fewshot("plan", place.job, "--no-probe", *settings)
    assert plan.result["unknown"] == {"rate": 0.3, "examples": 6, "needed": 3, "lost": 2 / 7}
    told = " ".join(plan.messages.split())
    assert "unknown_rate = 0.3 takes at least 3 examples, and there are 6: at most 29 % of the images" in told
    assert "unknown" not in fewshot("plan", place.job, "--no-probe").result


def test_equal_examples_count_once(place):
    for label in CLASSES:
        shutil.copy(place.examples / label / "0.jpg", place.examples / label / "copy.jpg")
    outcome = place.classify("classifier.unknown=true", "classifier.unknown_rate=0.2")
    assert outcome.result["unknown"]["examples"] == 6
    assert max(row["unknown_p_value"] or 0.0 for row in outcome.rows.values()) <= 1.0
    assert {round(7 * row["unknown_p_value"], 9) % 1 for row in outcome.rows.values() if row["score"]} == {0.0}


@pytest.mark.parametrize("command", ["classify", "plan"])
def test_a_class_with_a_name_alone_is_refused(place, command):
    classes = [{"label": "dark", "examples": 0}]
    place.write_job(support={"classes": classes}, classifier={"unknown": True})
    outcome = fewshot(command, place.job)
    assert outcome.code == 2
    assert "classifier.unknown compares images with examples, and there is none of dark" in outcome.messages
    assert not (place.output / "features").exists()


def test_a_rate_without_the_test_is_refused(place):
    outcome = place.classify("classifier.unknown_rate=0.1")
    assert outcome.code == 2
    assert "add unknown = true, or remove it" in outcome.messages
    assert place.classify("classifier.unknown_rate=0.1", "classifier.unknown=false").code == 0


def test_a_maximum_error_holds_beside_the_test(tested, tmp_path):
    limits = ("classifier.max_error=0.4", "classifier.confidence=0.5")
    both = tested.classify(*limits)
    alone = tested.classify(*limits, "classifier.unknown=false")
    assert both.result["threshold"] == alone.result["threshold"]
    assert both.result["held_out"] == alone.result["held_out"]
    for image, row in both.rows.items():
        is_unknown = (row["unknown_p_value"] or 1.0) <= 0.1
        assert row["status"] == ("unknown" if is_unknown else alone.rows[image]["status"])
    page = Path(both.result["report"]).read_text(encoding="utf-8")
    assert "All this is said of images of the classes" in page


def test_the_report_shows_unknown_images(tested):
    page = Path(tested.classify().result["report"]).read_text(encoding="utf-8")
    assert "<h3>Unknown</h3>" in page
    assert 0 < page.count('class="card unknown"') <= tested.classify().result["unknown"]["images"]
    assert '<span class="name">Unknown</span>' in page


def test_a_stored_classifier_brings_its_examples(tested, tmp_path):
    outcome = tested.classify()
    (card,) = tested.output.glob("classifiers/*/*/card.json")
    elsewhere = Place(tmp_path / "elsewhere", tested.clip)
    shutil.copytree(tested.archive, elsewhere.archive)
    keys = {"from": str(card.parent), "unknown": True, "unknown_rate": 0.1}
    again = write_job(elsewhere, classifier=keys).classify()
    assert again.code == 0, again.messages
    assert again.rows == outcome.rows
    assert again.result["unknown"]["examples"] == 15
    assert fewshot("verify", elsewhere.output).code == 0

    bare = tmp_path / "bare"
    shutil.copytree(card.parent, bare)
    (bare / "unknown.safetensors").unlink()
    refused = write_job(elsewhere, classifier=keys | {"from": str(bare)}).classify()
    assert refused.code == 2
    assert "has no unknown.safetensors" in refused.messages
    put(bare / "unknown.safetensors", (card.parent / "unknown.safetensors").read_bytes()[:-1])
    refused = write_job(elsewhere, classifier=keys | {"from": str(bare)}).classify()
    assert refused.code == 2
    assert "unknown.safetensors is damaged" in refused.messages


def test_other_examples_beside_a_stored_classifier_rename_the_predictions(tested, tmp_path):
    (card,) = tested.output.glob("classifiers/*/*/card.json")
    elsewhere = Place(tmp_path / "elsewhere", tested.clip)
    put(elsewhere.archive / "a.jpg", picture("blue", 1))
    copy = tmp_path / "copy"
    shutil.copytree(card.parent, copy)
    keys = {"from": str(copy), "unknown": True, "unknown_rate": 0.1}
    first = write_job(elsewhere, classifier=keys).classify()
    assert write_job(elsewhere, classifier=keys).classify().result["did"] == "nothing"
    other = Place(tmp_path / "other", tested.clip).fill(shots=4)
    assert other.classify(*TESTED).code == 0
    (file,) = other.output.glob("classifiers/*/*/unknown.safetensors")
    shutil.copy(file, copy / "unknown.safetensors")
    second = write_job(elsewhere, classifier=keys).classify()
    assert (second.result["did"], second.result["unknown"]["examples"]) == ("the rest", 12)
    assert second.run != first.run


def test_a_loaded_classifier_tests_images_as_the_run_did(tested):
    outcome = tested.classify()
    paths = [tested.archive / image for image in outcome.rows]
    classifier = library.load_classifier(outcome.run)
    for prediction, row in zip(classifier.predict(paths), outcome.rows.values(), strict=True):
        assert (prediction.status, prediction.label) == (row["status"], row["label"])
        assert (prediction.unknown_p_value, prediction.score) == (row["unknown_p_value"], row["score"])
    folder = next(tested.output.glob("classifiers/*/*/card.json")).parent
    assert library.load_classifier(folder).predict(paths[0]).unknown_p_value is None
    strict, lax = (library.load_classifier(folder, unknown_rate=rate).predict(paths) for rate in (0.01, 0.99))
    assert {each.status for each in strict} == {"ok", "unreadable"}
    assert sum(each.status == "unknown" for each in lax) > outcome.result["unknown"]["images"]


def test_a_classifier_without_examples_beside_it_tests_no_image(tested, tmp_path):
    shutil.copytree(next(tested.output.glob("classifiers/*/*/card.json")).parent, tmp_path / "bare")
    (tmp_path / "bare/unknown.safetensors").unlink()
    with pytest.raises(JobError, match=r"has no unknown\.safetensors"):
        library.load_classifier(tmp_path / "bare", unknown_rate=0.1)
    with pytest.raises(JobError, match="must lie between 0 and 1"):
        library.load_classifier(next(tested.output.glob("classifiers/*/*/card.json")).parent, unknown_rate=1.5)


def test_label_sets_and_the_test_of_unknown_images_leave_each_other_alone(tested):
    sets = ("classifier.guarantee=conformal", "classifier.label_set_error=0.4")
    both, alone = tested.classify(*sets), tested.classify(*sets, "classifier.unknown=false")
    assert both.code == 0, both.messages
    plain = tested.classify()
    for image, row in both.rows.items():
        assert row["label_set"] == alone.rows[image]["label_set"]
        assert row["unknown_p_value"] == plain.rows[image]["unknown_p_value"]
        is_unknown = plain.rows[image]["status"] == "unknown"
        assert row["status"] == ("unknown" if is_unknown else alone.rows[image]["status"])
    assert both.result["label_sets"] | {"labelled": 0} == alone.result["label_sets"] | {"labelled": 0}
    assert both.result["unknown"] == plain.result["unknown"]
    assert fewshot("verify", both.run).code == 0
    classifier = library.load_classifier(both.run)
    paths = [tested.archive / image for image in both.rows]
    for prediction, row in zip(classifier.predict(paths), both.rows.values(), strict=True):
        assert (prediction.status, prediction.unknown_p_value) == (row["status"], row["unknown_p_value"])
        assert row["label_set"] is None or list(prediction.label_set) == row["label_set"]
