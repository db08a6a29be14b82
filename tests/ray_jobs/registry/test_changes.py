"""Moves by hand: what stays, what goes, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import Store
from ray_jobs.errors import JobError
from ray_jobs.registry.changes import promote, prune, roll_back
from ray_jobs.registry.inspection import describe_version, diff_versions, list_versions
from ray_jobs.registry.journal import Journal
from ray_jobs.registry.learned_labels import LearnedLabels
from ray_jobs.registry.moves import Promoted, Registered, Rejected
from tests.ray_jobs.registry.registered import open_local, version


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Five versions with classifiers; 1, 2 and 4 were in production, 3 was rejected, 5 is the candidate."""
    journal = open_local(tmp_path)
    state = journal.state()
    for number in range(1, 6):
        labels = LearnedLabels(("amber", "blue"), {f"{n}": ("amber",) for n in range(number)})
        digest = labels.put(journal.store, journal.folder)
        each = version(number, labels=digest, parent=state.production)
        for name in ("classifier.safetensors", "card.json"):
            journal.store.put(f"{each.folder}/{name}", b"{}")
        state = journal.append(Registered(version=each), by="cron", why="a night", after=state)
        if number in (1, 2, 4):
            move = Promoted(version=number, former=state.production)
            state = journal.append(move, by="cron", why="no harm", after=state)
        if number == 3:
            state = journal.append(Rejected(version=3), by="cron", why="worse", after=state)
    return journal


def classifiers(journal: Journal) -> set[int]:
    return {int(path.split("/")[2], 16) for path in journal.store.list("classifiers")}


def test_a_promotion_by_hand_is_forced_and_told(journal: Journal) -> None:
    moved = promote(journal, 5, by="ann", why="checked")
    assert (moved.production, moved.former, moved.did) == (5, 4, "promoted version 5")
    entry = journal.entries()[-1]
    assert entry.move == Promoted(version=5, former=4, is_forced=True)
    assert (entry.by, entry.why) == ("ann", "checked")


def test_a_rollback_restores_the_production_before_or_a_named_one(journal: Journal) -> None:
    assert roll_back(journal, by="ann", why="harm").production == 2
    assert roll_back(journal, 1, by="ann", why="harm").production == 1
    assert [entry.move.kind for entry in journal.entries()[-2:]] == ["rolled back", "rolled back"]


@pytest.mark.parametrize(
    ("move", "message"),
    [
        (lambda journal: promote(journal, 9, by="ann", why=""), "no version 9"),
        (lambda journal: promote(journal, 4, by="ann", why=""), "in production already"),
        (lambda journal: roll_back(journal, 3, by="ann", why=""), "never in production; to make it so"),
        (lambda journal: roll_back(journal, 4, by="ann", why=""), "in production already"),
    ],
)
def test_moves_that_make_no_sense_are_refused(
    journal: Journal, move: Callable[[Journal], object], message: str
) -> None:
    before = journal.entries()
    with pytest.raises(JobError, match=message):
        move(journal)
    assert journal.entries() == before


def test_a_version_without_its_classifier_is_not_put_into_production(journal: Journal) -> None:
    journal.store.delete(f"{version(2).folder}/card.json")
    with pytest.raises(JobError, match=r"classifier of version 2 is missing: expected .*nothing was moved"):
        roll_back(journal, by="ann", why="harm")
    assert journal.state().production == 4


def test_without_an_earlier_production_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    journal = open_local(tmp_path)
    state = journal.append(Registered(version=version(1)), by="ann", why="first", after=journal.state())
    journal.append(Promoted(version=1, former=None), by="ann", why="first", after=state)
    with pytest.raises(JobError, match="no earlier production to go back to"):
        roll_back(journal, by="ann", why="harm")


def test_prune_removes_what_nothing_needs_and_can_be_repeated(journal: Journal) -> None:
    moved = prune(journal, keep=2, by="ann", why="space")
    assert classifiers(journal) == {2, 4, 5}
    assert set(moved.removed) == {version(1).folder, version(3).folder}
    assert journal.state().pruned == {1, 3}
    again = prune(journal, keep=2, by="ann", why="space")
    assert again.removed == ()
    assert again.did == "removed 0 classifiers"
    assert len([entry for entry in journal.entries() if entry.move.kind == "pruned"]) == 1
    with pytest.raises(JobError, match="was removed; train it again"):
        roll_back(journal, 1, by="ann", why="harm")


def test_what_a_rollback_restores_stays_even_if_one_is_to_be_kept(journal: Journal) -> None:
    prune(journal, keep=1, by="ann", why="space")
    assert classifiers(journal) == {2, 4, 5}
    assert roll_back(journal, by="ann", why="harm").production == 2


def test_a_prune_that_ended_halfway_is_finished_by_the_next_one(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_store: Store, _path: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete", crash)
        with pytest.raises(KeyboardInterrupt):
            prune(journal, keep=2, by="ann", why="space")
    assert classifiers(journal) == {1, 2, 3, 4, 5}
    assert len(prune(journal, keep=2, by="ann", why="space").removed) == 2
    assert classifiers(journal) == {2, 4, 5}


def test_a_classifier_that_two_versions_share_stays_as_long_as_one_is_needed(journal: Journal) -> None:
    twin = replace(version(6), folder=version(1).folder, labels=journal.state().version(1).labels)
    journal.append(Registered(version=twin), by="cron", why="the labels of the first night", after=journal.state())
    prune(journal, keep=2, by="ann", why="space")
    assert 1 in classifiers(journal)


def test_versions_are_listed_with_what_they_are_now(journal: Journal) -> None:
    listed = list_versions(journal)
    assert [each.state for each in listed.versions] == ["former", "former", "rejected", "production", "candidate"]
    assert (listed.production, listed.watched) == (4, False)
    prune(journal, keep=2, by="ann", why="space")
    promote(journal, 5, by="ann", why="checked")
    states = [each.state for each in list_versions(journal).versions]
    assert states == ["removed", "former", "removed", "former", "production"]


def test_a_version_is_described_with_all_that_concerns_it(journal: Journal) -> None:
    details = describe_version(journal, 3)
    assert details.images_of_class == {"amber": 3, "blue": 0}
    kinds = [entry["move"]["kind"] for entry in details.moves]  # type: ignore[call-overload,index]
    assert kinds == ["registered", "rejected"]
    with pytest.raises(JobError, match="no version 8"):
        describe_version(journal, 8)


def test_two_versions_are_compared_by_labels_and_settings(journal: Journal) -> None:
    diff = diff_versions(journal, 2, 4)
    assert (diff.added, diff.removed, diff.relabelled, diff.changed_classes) == (2, 0, 0, ("amber",))
    assert diff.settings["examples"] == (10, 12)
    assert "method" not in diff.settings
    assert diff_versions(journal, 4, 4).settings == {}
