"""`support.validation`: chosen and calibrated on, never learned from."""

from __future__ import annotations

import json
import shutil

import pytest

from ray_jobs import preflight
from ray_jobs.job_file.reading import read_job
from tests.ray_jobs.place import CLASSES, Place, fewshot, picture, put

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path, tiny_clip):
    return Place(tmp_path, tiny_clip).fill()


def write_validation(folder, *, images=5, classes=CLASSES):
    for index, label in enumerate(classes):
        for number in range(images):
            put(folder / label / f"{number}.jpg", picture(CLASSES[index % len(CLASSES)], 900 + 10 * index + number))
    return folder


def card(outcome, place):
    plan = json.loads((outcome.run / "plan.json").read_bytes())
    return json.loads((place.output / plan["classifier"] / "card.json").read_bytes())


def test_scores_are_calibrated_on_the_validation_images(place):
    validation = write_validation(place.folder / "validation")
    inside = fewshot("classify", place.job)
    outcome = fewshot("classify", place.job, "--set", f'support.validation="{validation}"')
    assert (inside.code, outcome.code) == (0, 0)
    held_out = card(outcome, place)["held_out"]
    assert (held_out["source"], held_out["images"]) == ("val", 5 * len(CLASSES))
    assert card(inside, place)["held_out"]["source"] != "val"
    assert fewshot("classify", place.job, "--set", f'support.validation="{validation}"').result["did"] == "nothing"


def test_the_labels_of_the_examples_are_read_once_to_check_the_job(place, monkeypatch):
    reads = []
    read = preflight.support_labels
    monkeypatch.setattr(preflight, "support_labels", lambda *given, **named: reads.append(1) or read(*given, **named))
    validation = write_validation(place.folder / "validation", classes=(*CLASSES, "dark"))
    job, _ = read_job(place.job, [f"support.validation='{validation}'"])
    (problem,) = preflight.check(job, ["support"])
    assert "has classes that [support] does not have: dark" in problem
    assert len(reads) == 1


def test_without_examples_their_validation_images_are_no_second_problem(place):
    validation = write_validation(place.folder / "validation", classes=(*CLASSES, "dark"))
    job, _ = read_job(place.job, [f"support.validation='{validation}'", f"support.uri='{place.folder / 'nowhere'}'"])
    (problem,) = preflight.check(job, ["support"])
    assert problem.startswith("[support] uri")


def test_the_plan_counts_the_validation_images(place):
    validation = write_validation(place.folder / "validation", images=8)
    outcome = fewshot("plan", place.job, "--no-probe", "--set", f'support.validation="{validation}"')
    assert outcome.code == 0
    assert outcome.result["error_limit"]["held_out"] == 8 * len(CLASSES)


def test_an_example_among_the_validation_images_is_refused_before_any_work(place):
    validation = write_validation(place.folder / "validation")
    example = next(place.examples.rglob("*.jpg"))
    shutil.copy(example, validation / CLASSES[0] / "copy.jpg")
    outcome = fewshot("classify", place.job, "--set", f'support.validation="{validation}"')
    assert outcome.code == 2
    assert "[support] validation: 1 of 16 images are examples, too" in outcome.messages
    assert not (place.output / "features").exists()


def test_a_class_without_examples_among_the_validation_images_is_refused(place):
    validation = write_validation(place.folder / "validation", classes=(*CLASSES, "dark"))
    outcome = fewshot("classify", place.job, "--set", f'support.validation="{validation}"')
    assert outcome.code == 2
    assert "has classes that [support] does not have: dark" in outcome.messages


def test_validation_images_of_which_none_can_be_read_stop_the_job_before_the_archive(place):
    for label in CLASSES:
        put(place.folder / "validation" / label / "0.jpg", b"no image")
    outcome = fewshot("classify", place.job, "--set", f'support.validation="{place.folder / "validation"}"')
    assert outcome.code == 2
    assert "[support] validation: no image can be read, e.g. amber/0.jpg: not an image" in outcome.messages
    assert all(path.name.startswith("examples") for path in place.output.glob("features/*/*"))


def test_a_splits_file_gives_its_split_val(place):
    splits = {"classes": list(CLASSES), "train": [], "val": [], "test": []}
    for index, label in enumerate(CLASSES):
        for number in range(4):
            path = f"{label}/{number}.jpg"
            put(place.folder / "images" / path, picture(label, 700 + 10 * index + number))
            splits["train" if number % 2 else "val"].append([path, index])
    file = place.folder / "images" / "splits.json"
    file.write_text(json.dumps(splits))
    keys = ("--set", f'support.uri="{file}"', "--set", f'support.validation="{file}"')
    outcome = fewshot("classify", place.job, *keys)
    assert outcome.code == 0
    assert card(outcome, place)["held_out"]["images"] == 2 * len(CLASSES)
