"""Nights of a project, on a small place: what each turn trains, decides and leaves."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping

import pytest

from cluster import Store
from ray_jobs.console.progress import Reporter
from ray_jobs.job_file.reading import read_job
from ray_jobs.registry.changes import roll_back
from ray_jobs.registry.journal import Journal
from ray_jobs.retraining.retrain import Turn, retrain
from tests.ray_jobs.place import CLASSES, Place, fewshot

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path, tiny_clip) -> Place:
    """A job that learns from its ledger, with five examples a class and 60 images in the archive."""
    place = Place(tmp_path, tiny_clip).fill(images=60, shots=5)
    place.write_job(archive={"labels": str(place.truth)}, support={"labels": True}, classifier={"method": "gda"})
    return place


def turn(place: Place, policy: str = "watchful", by: str = "cron") -> Turn:
    job, problems = read_job(place.job, [f"retrain.policy={policy}"])
    assert not problems
    return retrain(job, Reporter(), by=by)


def label(place: Place, images: Iterable[int], labels: Mapping[int, str] | None = None, *, by: str = "ann") -> None:
    """Import labels of images of the archive: the true ones, but for those that are given."""
    table = place.folder / "labels.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "reason"])
        for number in images:
            name = (labels or {}).get(number, CLASSES[number % 3])
            writer.writerow([f"photo_{number:03}.jpg", name, "import"])
    assert fewshot("labels", "import", str(place.output), str(table), "--by", by).code == 0


def journal(place: Place) -> Journal:
    return Journal(Store(str(place.output)), "test")


def kinds(place: Place) -> list[str]:
    return [entry.move.kind for entry in journal(place).entries()]


def test_the_first_turn_makes_the_first_version_and_the_next_one_nothing(place: Place) -> None:
    first = turn(place)
    assert (first.trained, first.state.production) == (2, 1)  # The classifier and its twin.
    assert first.finished.metrics.images == 62
    assert kinds(place) == ["registered", "promoted"]
    again = turn(place)
    assert (again.trained, again.decisions, again.state) == (0, (), first.state)
    assert again.finished.did == "nothing"


def test_new_labels_train_a_version_that_is_promoted_and_watched(place: Place) -> None:
    turn(place)
    label(place, range(12))
    second = turn(place)
    assert (second.trained, second.state.production, second.state.shadow) == (2, 2, 1)
    version = second.state.version(2)
    assert (version.examples, version.parent) == (27, 1)
    why = journal(place).entries()[2].why
    assert why == "12 labels added, 0 removed, 0 changed"
    assert second.finished.run.plan.classifier == str(place.output / version.folder)
    assert second.finished.metrics.given_labels is not None
    assert second.finished.metrics.given_labels.learned_from == 12  # Nothing is measured with them.
    entries = len(kinds(place))
    for _ in range(2):  # Nothing came later: what is known is noted once.
        assert (turn(place).trained, len(kinds(place))) == (0, entries + 1)
    label(place, range(12, 24))
    third = turn(place)
    assert (third.state.production, third.state.shadow, third.state.watched_since) == (3, 1, 4)
    compared = [entry.move for entry in journal(place).entries() if entry.move.kind == "compared"][-1]
    assert compared.evidence.images == 12  # What came after both: none of them was learned from.


def test_a_night_of_wrong_labels_is_rejected_and_its_class_named(place: Place) -> None:
    turn(place)
    before = turn(place)
    label(place, range(40), {number: "cyan" for number in range(40) if number % 3 != 2 and number % 2})
    poisoned = turn(place)
    assert poisoned.state.production == 1
    assert poisoned.state.rejected == {2}
    assert "look at the labels of cyan" in journal(place).entries()[-1].why
    assert poisoned.finished.run.plan.predictions == before.finished.run.plan.predictions
    again = turn(place)  # The labels are as they were, so nothing is trained, and nothing moves.
    assert (again.trained, again.decisions) == (0, ())
    label(place, range(40))
    mended = turn(place)
    assert mended.state.production == 3


def test_a_frozen_candidate_waits_until_later_labels_decide(place: Place) -> None:
    turn(place, "superior")
    label(place, range(9))
    held = turn(place, "superior")
    assert (held.state.production, held.state.candidate, held.trained) == (1, 2, 2)
    label(place, range(9, 30))
    later = turn(place, "superior")
    assert (later.state.production, later.state.candidate, later.trained) == (1, 2, 0)
    assert later.decisions[-1][1].step == "hold"
    compared = journal(place).entries()[-1].move
    assert compared.kind == "compared"
    assert compared.evidence.images == 21


def test_a_class_that_was_added_renamed_and_removed_is_told(place: Place) -> None:
    turn(place)
    label(place, [0, 3, 6, 9, 12], dict.fromkeys([0, 3, 6, 9, 12], "gold"))
    added = turn(place)
    assert added.state.version(2).classes == (*CLASSES, "gold")
    assert "new: gold" in journal(place).entries()[2].why
    label(place, [0, 3, 6, 9, 12], dict.fromkeys([0, 3, 6, 9, 12], "rust"))
    turn(place)
    registered = [entry.why for entry in journal(place).entries() if entry.move.kind == "registered"]
    assert registered[-1] == "0 labels added, 0 removed, 0 changed; gold is now rust"


def test_a_rollback_stays_until_the_labels_change(place: Place) -> None:
    turn(place)
    label(place, range(12))
    turn(place)
    roll_back(journal(place), by="ann", why="harm")
    after = turn(place)
    assert (after.state.production, after.trained) == (1, 0)
    assert after.finished.run.plan.classifier == str(place.output / after.state.version(1).folder)


def test_the_command_tells_what_it_did_and_what_it_would_take(place: Place) -> None:
    first = fewshot("retrain", place.job, "--set", "retrain.policy=superior", "--by", "cron")
    assert (first.code, first.result["production"], first.result["trained"]) == (0, 1, 2)
    assert [step["step"] for step in first.result["steps"]] == ["train", "promote"]
    label(place, range(9))
    held = fewshot("retrain", place.job, "--set", "retrain.policy=superior")
    assert (held.result["production"], held.result["candidate"]) == (1, 2)
    label(place, range(9, 30))
    later = fewshot("retrain", place.job, "--set", "retrain.policy=superior")
    labels = [each["labels"] for each in later.result["outlook"]]
    assert labels == sorted(labels, reverse=True)
    assert "to show a gain of 1 points takes about" in later.messages
    listed = fewshot("registry", "list", str(place.output))
    assert [each["state"] for each in listed.result["versions"]] == ["production", "candidate"]
    back = fewshot("registry", "promote", str(place.output), "2", "--why", "looks good")
    assert back.result["production"] == 2
    steps = fewshot("retrain", place.job).result["steps"]
    assert [(step["version"], step["step"]) for step in steps] == [(3, "train"), (3, "promote")]


def test_a_stored_classifier_is_not_retrained(place: Place) -> None:
    turn(place)
    folder = next(place.output.glob("classifiers/gda/*"))
    refused = fewshot("retrain", place.job, "--set", f"classifier.from={folder}", "--set", "classifier.method=gda")
    assert refused.code == 2
