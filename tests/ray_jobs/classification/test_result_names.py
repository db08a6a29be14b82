"""What determines a result is in its name: each change renames exactly what it changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_jobs.classification.classify import Classification
from ray_jobs.job_file.reading import read_job
from ray_jobs.output.classifiers import ClassifierRef
from ray_jobs.results.classification_metrics import UnreadableExamples
from tests.ray_jobs.place import CLASSES, picture, put, write_table

NOTHING: set[str] = set()
FEATURES, EXAMPLES, TRAINED = {"features"}, {"examples"}, {"classifier"}
LABELS, RUN = {"labels", "run"}, {"run"}
SETS = "classifier.guarantee=conformal"


def classification(place, *settings):
    job, problems = read_job(place.job, settings)
    assert problems == []
    return Classification.from_job(job)


def names(place, *settings):
    """Return the folders of features, classifier, predictions and run. Nothing is computed for them."""
    work = classification(place, *settings)
    return {
        "features": work.features,
        "examples": work.support.folder,
        "classifier": work.training.identity.folder,
        "labels": work.labels,
        "run": work.run,
    }


def renamed(before, after):
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("cluster.mode=auto", NOTHING),
        ("job.name=other", RUN),
        ("classifier.confidence=0.8", RUN),
        ("classifier.top=2", LABELS),
        ("classifier.max_error=0.1", LABELS),
        ("classifier.guarantee=conformal", LABELS),
        ("classifier.unknown=true", LABELS),
        ("classifier.unknown=false", NOTHING),
        ("classifier.method=nearest_mean", TRAINED | LABELS),
        ("classifier.hyperparameters={beta=2.0}", TRAINED | LABELS),
        ("clip.templates=['a drawing of {}']", TRAINED | LABELS),
        ("support.seed=2", TRAINED | LABELS),
        ("support.views=2", EXAMPLES | TRAINED | LABELS),
        ("support.shots=1", TRAINED | LABELS),
        ("clip.batch_size=2", FEATURES | EXAMPLES | TRAINED | LABELS),
        ("archive.id=photos", FEATURES | LABELS),
        ("archive.shard_images=2", RUN),
    ],
)
def test_a_setting_renames_what_it_changes(place, setting, expected):
    assert renamed(names(place), names(place, setting)) == expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("ray_jobs.output.layout.FEATURES_VERSION", FEATURES | EXAMPLES | TRAINED | LABELS),
        ("fewshot.image_formats.DECODING_VERSION", FEATURES | EXAMPLES | TRAINED | LABELS),
        ("ray_jobs.output.classifiers.METHODS_VERSION", TRAINED | LABELS),
        ("ray_jobs.output.predictions.PREDICTIONS_VERSION", LABELS),
        ("ray_jobs.escalation.escalate.ESCALATION_VERSION", RUN),
    ],
)
def test_a_version_renames_what_it_is_of(place, monkeypatch, version, expected):
    before = names(place, "escalate.method=tif")
    monkeypatch.setattr(version, 1000)
    assert renamed(before, names(place, "escalate.method=tif")) == expected


def test_the_confidence_of_a_maximum_error_renames_the_predictions(place):
    lax, strict = (names(place, "classifier.max_error=0.1", f"classifier.confidence={each}") for each in (0.8, 0.9))
    assert renamed(lax, strict) == LABELS


def test_label_sets_are_named_by_their_error_and_their_version(place, monkeypatch):
    before, given = (names(place, SETS, f"classifier.label_set_error={error}") for error in (0.2, 0.1))
    assert renamed(before, given) == LABELS
    assert renamed(given, names(place, SETS)) == NOTHING
    monkeypatch.setattr("ray_jobs.output.label_set_examples.LABEL_SETS_VERSION", 1000)
    assert renamed(given, names(place, SETS)) == LABELS


def test_the_rate_of_known_images_lost_renames_the_predictions(place):
    rates = [names(place, "classifier.unknown=true", *rate) for rate in ([], ["classifier.unknown_rate=0.1"])]
    assert renamed(*rates) == LABELS
    assert renamed(rates[0], names(place, "classifier.unknown=true", "classifier.unknown_rate=0.05")) == NOTHING


def test_other_content_renames_what_it_is_read_for(place):
    before = names(place)
    put(place.archive / "photo_000.jpg", picture("cyan", 5))
    changed = names(place)
    assert renamed(before, changed) == RUN
    put(place.examples / "blue/0.jpg", picture("blue", 5))
    assert renamed(changed, names(place)) == TRAINED | LABELS


def test_the_place_of_a_named_archive_renames_the_predictions(place):
    """Their metadata have it."""
    before = names(place, "archive.id=photos")
    moved = place.archive.rename(place.folder / "moved")
    assert renamed(before, names(place, "archive.id=photos", f"archive.uri={moved}")) == LABELS


def test_the_truth_renames_the_run(place):
    labels = f"archive.labels={place.truth}"
    before = names(place, labels)
    assert renamed(names(place), before) == RUN
    write_table(place.truth, [("photo_000.jpg", "cyan"), ("photo_001.jpg", "blue")])
    assert renamed(before, names(place, labels)) == RUN


@pytest.mark.parametrize(
    "setting",
    [
        "escalate.method=diffusion_classifier",
        "escalate.hyperparameters={rank=2}",
        "escalate.below=0.5",
        "escalate.max_fraction=0.5",
        "escalate.budget_gpu_hours=1.0",
        "escalate.candidates=2",
        "escalate.schedule=exhaustive",
        "escalate.steps=10",
        "escalate.error_rate=0.1",
        "escalate.calibrate=false",
        "escalate.classes_per_block=2",
        "escalate.seed=1",
        "escalate.image_size=64",
    ],
)
def test_a_setting_of_an_escalation_renames_the_run(place, setting):
    plain, escalated = names(place), names(place, "escalate.method=tif")
    assert renamed(plain, escalated) == RUN
    assert renamed(escalated, names(place, "escalate.method=tif", setting)) == RUN


def test_examples_beside_a_stored_classifier_rename_an_escalated_run(place):
    def run():
        work = classification(place, "escalate.method=tif")
        stored = ClassifierRef(
            store=work.store,
            folder="classifiers/a",
            name="a",
            method="tip_adapter",
            classes=CLASSES,
            identity="a",
            examples=6,
            held_out=6,
            unreadable_examples=UnreadableExamples(examples=0),
            clip={},
        )
        return replace(work, stored=stored).run

    before = run()
    assert run() == before
    put(place.examples / "blue/0.jpg", picture("blue", 5))
    assert run() != before
