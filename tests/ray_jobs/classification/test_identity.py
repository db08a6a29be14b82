"""What is embedded once is found again by what it is: examples by content, archives by place or name."""

from __future__ import annotations

import json
import os
import shutil

import pyarrow.dataset as ds
import pytest
from PIL import Image

from ray_jobs.inputs.example_contents import ExampleContents
from tests.ray_jobs.place import CLASSES, fewshot, picture, put, written
from tests.strange_files import encode, photo

pytestmark = pytest.mark.slow


def write_examples(folder, order):
    """One example a class with the colours of another class: all files have one size and one time."""
    for name, colours in zip(CLASSES, order, strict=True):
        channels = photo(48, 40, seed=9).split()
        turn = CLASSES.index(colours)
        image = Image.merge("RGB", channels[-turn:] + channels[:-turn])
        put(folder / name / "0.bmp", encode(image, "BMP"))
        os.utime(folder / name / "0.bmp", ns=(0, 0))


def labels(outcome):
    assert outcome.code == 0, outcome.messages
    return {image: row["label"] for image, row in outcome.rows.items() if row["label"]}


@pytest.mark.parametrize("second", ["another folder", "the same folder"])
def test_examples_with_equal_names_sizes_and_times_are_not_the_same(place, second):
    write_examples(place.folder / "one", CLASSES)
    settings = ("support.views=0", "classifier.method=nearest_mean", "classifier.hyperparameters={text_weight=0.0}")
    before = labels(place.classify(f"support.uri={place.folder / 'one'}", *settings))
    there = place.folder / ("one" if second == "the same folder" else "two")
    write_examples(there, [*CLASSES[1:], CLASSES[0]])
    outcome = place.classify(f"support.uri={there}", *settings)
    assert outcome.result["did"] != "nothing"
    turned = dict(zip([*CLASSES[1:], CLASSES[0]], CLASSES, strict=True))
    assert labels(outcome) == {image: turned[label] for image, label in before.items()}


def test_an_example_that_changes_before_it_is_embedded_stops_the_job(place, monkeypatch):
    check, example = ExampleContents.check, place.examples / "blue/0.jpg"

    def check_then_change(contents, *, skip):
        check(contents, skip=skip)
        put(example, picture("amber", 5))

    monkeypatch.setattr(ExampleContents, "check", check_then_change)
    stopped = place.classify()
    assert (stopped.code, stopped.result) == (2, None)
    assert "blue/0.jpg changed since it was listed; run again" in stopped.messages
    assert all("/examples-" in f"/{name}" for name in place.features())
    monkeypatch.undo()
    again = place.classify()
    assert labels(again) == labels(place.classify(f"job.output={place.folder / 'fresh'}"))


def origin(outcome):
    return ds.dataset(outcome.parts).schema.metadata[b"fewshot.archive"].decode()


def test_a_renamed_archive_keeps_its_features_by_its_name(place):
    named = "archive.id=holiday photos"
    first, features = place.classify(named), place.features()
    moved = place.archive.rename(place.folder / "mounted elsewhere")
    put(moved / "photo_000.jpg", picture("blue", 400))
    second = place.classify(named, f"archive.uri={moved}")
    added = set(place.features()) - set(features)
    assert {name: place.features()[name] for name in features} == features
    assert len(added) == 1
    assert (origin(first), origin(second)) == (str(place.archive), str(moved))
    assert (labels(first).keys(), first.run == second.run) == (labels(second).keys(), False)
    assert place.classify(named, f"archive.uri={moved}").result["did"] == "nothing"
    assert len(place.features()) == len(features) + 1
    labels(place.classify(f"archive.uri={moved}", "classifier.method=zero_shot"))
    assert len(place.features()) > len(features) + 1


def evaluation(place, **sections):
    """A job file with the images of the archive as test images, and the examples as train images."""
    train = [[f"examples/{name}/{shot}.jpg", label] for label, name in enumerate(CLASSES) for shot in range(2)]
    test = [[f"archive/photo_{index:03}.jpg", index % len(CLASSES)] for index in range(18)]
    put(place.folder / "splits.json", json.dumps({"classes": CLASSES, "train": train, "test": test}).encode())
    splits = {"splits": str(place.folder / "splits.json"), "shots": [1, 2], "seeds": [1], "methods": ["tip_adapter"]}
    place.write_job(evaluate=splits, **sections)


def test_an_evaluation_embeds_nothing_that_classify_embedded(place, embedded):
    evaluation(place)
    assert place.classify().code == 0
    assert sum(embedded) == 18 + 6 * 2
    embedded.clear()
    outcome = fewshot("evaluate", place.job)
    assert (outcome.code, embedded) == (0, [])
    assert "18 images were embedded before in this output" in outcome.messages
    alone = fewshot("evaluate", place.job, "--set", f"job.output={place.folder / 'alone'}")
    assert sum(embedded) == 18 + 6 * 2
    assert outcome.result["table"] == alone.result["table"]
    for name in written(place.folder / "alone/features"):
        assert (place.output / "features" / name).read_bytes() == (place.folder / "alone/features" / name).read_bytes()


def test_an_evaluation_embeds_what_changed_since_classify(place, embedded):
    evaluation(place)
    place.classify()
    put(place.archive / "photo_003.jpg", picture("amber", 300))
    put(place.examples / "blue/1.jpg", picture("blue", 301))
    embedded.clear()
    changed = fewshot("evaluate", place.job)
    assert (changed.code, sum(embedded)) == (0, 18 + 2)
    shutil.rmtree(place.output)
    assert changed.result["table"] == fewshot("evaluate", place.job).result["table"]


def test_an_evaluation_of_an_archive_that_is_gone_embeds_by_itself(place, embedded):
    evaluation(place, archive={"uri": str(place.folder / "gone")})
    assert fewshot("evaluate", place.job).code == 0
    assert sum(embedded) == 18 + 6 * 2
