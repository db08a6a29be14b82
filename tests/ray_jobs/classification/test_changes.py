"""What changes is the work that is done: rows embedded and objects stored are counted after each change."""

from __future__ import annotations

import pytest

from ray_jobs.inputs.archive import list_archive, open_archive
from ray_jobs.job_file.sections import ArchiveSection
from tests.ray_jobs.place import CLASSES, picture, put, write_table
from tests.tiny_diffusion import write_tiny_diffusion

pytestmark = pytest.mark.slow

VIEWS = 2
"""Rows of an example: as it is, and one augmented view."""


@pytest.fixture
def done(place, embedded, puts):
    """A place whose job is done, and a function that does it again and returns the work of that: rows and objects."""
    assert place.classify().code == 0
    assert sum(embedded) == 18 + 6 * VIEWS

    def again(*settings):
        embedded.clear()
        puts.clear()
        outcome = place.classify(*settings)
        assert outcome.code == 0, outcome.messages
        stored = {folder: count for folder, count in puts.items() if folder not in ("runs", "latest.json")}
        return sum(embedded), stored

    return place, again


def shards(place):
    listing = list_archive(open_archive(ArchiveSection(uri=str(place.archive), shard_images=4)))
    return dict(listing.shards)


def test_an_added_image_embeds_its_shard_and_labels_one_part(done):
    place, again = done
    before = shards(place)
    put(place.archive / "photo_005x.jpg", picture("cyan", 500))
    added = {name: size for name, size in shards(place).items() if name not in before}
    assert len(added) == 1 < len(before)
    assert again() == (sum(added.values()), {"features": 1, "predictions": 1})
    (place.archive / "photo_005x.jpg").unlink()
    assert again() == (0, {})


def test_a_changed_image_labels_one_part(done):
    place, again = done
    put(place.archive / "photo_005.jpg", picture("cyan", 500))
    rows, stored = again()
    assert (rows < 10, stored) == (True, {"features": 1, "predictions": 1})


def test_an_added_example_embeds_that_example(done):
    place, again = done
    put(place.examples / "blue/another.jpg", picture("blue", 77))
    rows, stored = again()
    assert (rows, stored) == (VIEWS, {"features": 1, "classifiers": 2, "predictions": len(shards(place))})
    put(place.examples / "cyan/another.jpg", picture("cyan", 78))
    assert again()[0] == VIEWS


def test_an_added_example_says_nothing_about_the_limit_of_the_archive(done):
    place, _ = done
    assert (place.classify().run / "load.json").is_file()
    put(place.examples / "blue/another.jpg", picture("blue", 77))
    outcome = place.classify()
    assert not (outcome.run / "load.json").exists()
    assert "half of the time" not in outcome.messages
    assert "limited by" not in outcome.messages


def test_an_added_class_embeds_its_examples(done):
    place, again = done
    for shot in range(2):
        put(place.examples / f"dark/{shot}.jpg", picture("amber", 78 + shot))
    rows, stored = again()
    assert (rows, stored["features"]) == (2 * VIEWS, 1)


@pytest.mark.parametrize("change", ["renamed", "repeated", "removed"])
def test_examples_of_known_contents_are_not_embedded(done, change):
    place, again = done
    file = place.examples / "blue/0.jpg"
    if change == "repeated":
        put(place.examples / "blue/again.jpg", file.read_bytes())
    else:
        file.rename(place.examples / "blue/new name.jpg" if change == "renamed" else place.folder / "away.jpg")
    rows, stored = again()
    assert (rows, "features" in stored) == (0, False)


@pytest.mark.parametrize(
    "setting",
    [
        "clip.templates=['a photo of a {}.', 'a drawing of a {}.']",
        "classifier.method=zero_shot",
        "classifier.method=ape",
        "classifier.hyperparameters={alpha=0.5}",
    ],
)
def test_another_template_or_method_embeds_nothing(done, setting):
    place, again = done
    rows, stored = again(setting)
    assert (rows, stored) == (0, {"classifiers": 2, "predictions": len(shards(place))})
    assert again(setting) == again() == (0, {})


def test_only_a_classifier_that_is_missing_is_said_to_be_trained(done):
    place, _ = done
    assert "training ape on 6 examples" in place.classify("classifier.method=ape").messages
    assert "training" not in place.classify("classifier.max_error=0.4").messages


def test_another_max_error_trains_and_embeds_nothing(done):
    place, again = done
    parts = len(shards(place))
    assert again("classifier.max_error=0.4") == (0, {"predictions": parts})
    assert again("classifier.max_error=0.4", "classifier.confidence=0.8") == (0, {"predictions": parts})
    assert again("classifier.confidence=0.8") == (0, {})  # It limits nothing without max_error.


def test_another_name_or_ground_truth_labels_nothing_again(done):
    place, again = done
    write_table(place.truth, [("photo_000.jpg", CLASSES[0]), ("photo_001.jpg", CLASSES[1])])
    assert again("job.name=other", f"archive.labels={place.truth}") == (0, {})


def test_escalation_labels_nothing_again(done, tmp_path):
    _, again = done
    (tmp_path / "diffusion").mkdir()
    section = {"model": write_tiny_diffusion(tmp_path / "diffusion"), "method": "diffusion_classifier"}
    section |= {"max_fraction": 0.1, "steps": 4, "calibrate": "false"}
    rows, stored = again(*(f"escalate.{key}={value}" for key, value in section.items()))
    assert (rows, stored.keys() & {"features", "predictions", "classifiers"}) == (0, set())


def test_more_shots_embed_the_other_examples(place, embedded):
    place.classify("support.shots=1")
    embedded.clear()
    place.classify("support.shots=2")
    assert sum(embedded) == len(CLASSES) * VIEWS
