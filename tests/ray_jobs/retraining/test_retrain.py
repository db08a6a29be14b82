"""Nights of a project, on a small place: what each turn trains, decides and leaves."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping

import pytest

from cluster import Store
from ray_jobs.console.progress import Reporter
from ray_jobs.job_file.reading import read_job
from ray_jobs.labels.label_ledger import open_ledger
from ray_jobs.registry.changes import roll_back
from ray_jobs.registry.journal import Journal
from ray_jobs.retraining.retrain import Turn, retrain
from tests.ray_jobs.place import CLASSES, Place, fewshot
from tests.tiny_clip import write_tiny_clip

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
    checked = "production agrees with 12 of 12 new labels, 12 expected"
    assert why == f"12 labels added, 0 removed, 0 changed; {checked}"
    assert second.finished.run.plan.classifier == str(place.output / version.folder)
    assert second.finished.metrics.given_labels is not None
    assert second.finished.metrics.given_labels.learned_from == 12  # Nothing is measured with them.
    entries = len(kinds(place))
    assert (turn(place).trained, len(kinds(place))) == (0, entries)  # Nothing came later.
    label(place, range(12, 24))
    third = turn(place)
    assert (third.state.production, third.state.shadow, third.state.watched) == (3, 1, (2, 3))
    compared = [entry.move for entry in journal(place).entries() if entry.move.kind == "compared"][-1]
    assert compared.evidence.images == 12  # What came after both: none of them was learned from.


def test_a_night_of_wrong_labels_is_refused_until_they_are_corrected(place: Place) -> None:
    turn(place)
    before = turn(place)
    label(place, range(40), {number: "cyan" for number in range(40) if number % 3 != 2 and number % 2})
    poisoned = turn(place)
    assert (poisoned.state.production, poisoned.trained, poisoned.refused) == (1, 0, True)
    assert "look at the labels of cyan" in journal(place).entries()[-1].why
    assert poisoned.finished.run.plan.predictions == before.finished.run.plan.predictions
    entries = kinds(place)
    assert entries == ["registered", "promoted", "refused"]
    again = turn(place)  # The labels are as they were, so nothing is trained, and nothing moves.
    assert (again.trained, kinds(place)) == (0, entries)
    label(place, range(40, 60))  # Good labels do not make the others better.
    more = turn(place)
    assert (more.state.production, more.trained, more.refused) == (1, 0, True)
    label(place, range(40))
    mended = turn(place)
    assert (mended.state.production, mended.refused) == (2, False)


def test_refused_labels_can_be_accepted_and_a_version_promoted_by_force(place: Place) -> None:
    turn(place, "superior")
    label(place, range(40), {number: "cyan" for number in range(40) if number % 3 != 2 and number % 2})
    assert turn(place, "superior").refused
    job, _ = read_job(place.job, ["retrain.policy=superior"])
    accepted = retrain(job, Reporter(), by="ann", acceptance="labels")
    assert (accepted.state.production, accepted.state.candidate, accepted.refused) == (1, 2, False)  # The gate decides.
    assert accepted.decisions[0][1].step == "accept"
    assert "accepted" in kinds(place)
    assert not turn(place, "superior").refused  # They stay accepted.
    forced = retrain(job, Reporter(), by="ann", acceptance="force")
    assert (forced.state.production, forced.state.shadow, forced.refused) == (2, None, False)
    assert getattr(journal(place).entries()[-1].move, "is_forced", False)


def test_refused_labels_end_the_command_with_a_code_of_its_own(place: Place) -> None:
    turn(place)
    label(place, range(40), {number: "cyan" for number in range(40) if number % 3 != 2 and number % 2})
    refused = fewshot("retrain", place.job)
    assert (refused.code, refused.result["refused"]) == (3, True)
    assert "labels: refuse: about " in refused.messages
    assert "new labels seem to be wrong (production agrees with" in refused.messages
    assert "fewshot retrain --accept-labels" in refused.messages


def test_a_watch_of_many_versions_predicts_only_with_those_to_which_labels_came(place: Place) -> None:
    turn(place)
    for night in range(3):
        label(place, range(6 * night, 6 * night + 6))
        turn(place)
    state = journal(place).state()
    assert state.watched == (2, 3, 4)
    label(place, range(30, 36))
    after = turn(place)
    assert after.state.watched == (2, 3, 4, 5)
    moves = [entry.move for entry in journal(place).entries()]
    found = [(move.version, move.against, move.evidence.images) for move in moves if move.kind == "compared"]
    assert found[-2:] == [(4, 3, 6), (4, 1, 18)]


def test_undone_labels_take_their_version_back(place: Place) -> None:
    first = turn(place)
    label(place, range(12))
    turn(place)
    ledger = open_ledger(str(place.output / "labels"))
    ledger.undo([event.id for event in ledger.events()], by="ann")
    after = turn(place)
    assert (after.state.production, after.trained) == (3, 0)  # The first classifier again, compared anew.
    assert after.state.version(3).folder == first.state.version(1).folder


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


def test_after_a_rollback_a_new_version_waits_for_labels_that_come_later(place: Place) -> None:
    turn(place)
    label(place, range(12))
    turn(place)
    roll_back(journal(place), by="ann", why="harm")
    after = turn(place)
    assert (after.state.production, after.trained) == (1, 0)
    assert after.finished.run.plan.classifier == str(place.output / after.state.version(1).folder)
    label(place, range(12, 15))
    later = turn(place)
    assert (later.state.production, later.state.candidate) == (1, 3)


def test_a_new_class_does_not_wait(place: Place) -> None:
    turn(place, "superior")
    label(place, range(9))
    assert turn(place, "superior").state.candidate == 2
    gold = [0, 3, 6, 12, 15, 18]
    label(place, gold, dict.fromkeys(gold, "gold"))
    added = turn(place, "superior")
    assert (added.state.production, added.state.candidate, added.state.shadow) == (3, None, 1)
    assert "gold: new, and not waiting" in added.decisions[-1][1].why


def test_another_backbone_is_compared_by_the_same_gate_and_can_be_rolled_back(place: Place) -> None:
    first = turn(place)
    other = place.folder / "other_clip"
    other.mkdir()
    write_tiny_clip(other, embed_dim=32)
    place.write_job(
        archive={"labels": str(place.truth)},
        support={"labels": True},
        classifier={"method": "gda"},
        clip={"model": str(other)},
    )
    held = turn(place, "superior")
    assert (held.state.production, held.state.candidate) == (1, 2)
    assert held.finished.run.url == first.finished.run.url  # Production still labels, on its own backbone.
    assert "another backbone" in held.decisions[0][1].why
    label(place, range(12))
    assert turn(place, "superior").decisions[-1][1].step == "hold"  # Both were compared on the same twelve labels.
    upgraded = turn(place, "watchful")
    assert upgraded.state.production == 3
    assert upgraded.finished.run.plan.features != first.finished.run.plan.features
    roll_back(journal(place), 1, by="ann", why="slower")
    back = turn(place, "watchful")
    assert back.finished.run.plan.features == first.finished.run.plan.features


@pytest.mark.parametrize(
    "settings",
    [{"classifier": {"max_error": 0.1, "max_error_from": "audit"}}, {"escalate": {"method": "tif"}}],
)
def test_what_a_turn_cannot_do_is_refused_before_anything_is_trained(place: Place, settings) -> None:
    place.write_job(support={"labels": True}, **settings)
    refused = fewshot("retrain", place.job)
    assert refused.code == 2
    assert not (place.output / "registry").exists()


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
    assert "a gain of 1 point takes" in later.messages
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
