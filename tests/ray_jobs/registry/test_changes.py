"""Moves by hand: what is moved, what is refused, and how versions look afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ray_jobs.errors import JobError
from ray_jobs.registry.changes import promote, reject, roll_back
from ray_jobs.registry.inspection import describe_version, diff_versions, list_versions
from ray_jobs.registry.journal import Journal
from ray_jobs.registry.move_sentences import move_sentence
from ray_jobs.registry.moves import Confirmed, Promoted, Pruned, Registered, Rejected, RolledBack
from tests.ray_jobs.registry.registered import open_local, version, with_classifiers


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Five versions with classifiers; 1, 2 and 4 were in production, 3 was rejected, 5 is the candidate."""
    return with_classifiers(open_local(tmp_path))


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


def test_a_rollback_is_not_made_twice_unless_the_version_is_named(journal: Journal) -> None:
    first, again = (roll_back(journal, by="ann", why="harm") for _ in range(2))
    assert (first.moved, first.production) == (True, 2)
    assert (again.moved, again.production) == (False, 2)
    assert again.did == "version 2 was gone back to already (one further: --to 1); nothing was moved"
    roll_back(journal, 1, by="ann", why="harm")
    last = roll_back(journal, by="ann", why="harm")
    assert (last.did, last.production) == ("version 1 was gone back to already; nothing was moved", 1)
    promote(journal, 5, by="ann", why="better")
    assert roll_back(journal, by="ann", why="harm").production == 1


def test_a_person_does_not_roll_back_what_the_watch_restored(journal: Journal) -> None:
    state = journal.append(Promoted(version=5, former=4, is_watched=True), by="cron", why="", after=journal.state())
    journal.append(RolledBack(version=4, former=5, is_automatic=True), by="cron", why="harm", after=state)
    assert roll_back(journal, by="ann", why="version 5 is bad").production == 4


@pytest.mark.parametrize(
    ("move", "message"),
    [
        (lambda journal: promote(journal, 9, by="ann", why=""), "no version 9"),
        (lambda journal: roll_back(journal, 3, by="ann", why=""), "never in production; to make it so"),
        (lambda journal: roll_back(journal, 9, by="ann", why=""), "no version 9; it has 1 to 5"),
        (lambda journal: reject(journal, 9, by="ann", why=""), "no version 9; it has 1 to 5"),
        (lambda journal: reject(journal, 4, by="ann", why=""), "in production; to take it back: fewshot registry roll"),
        (lambda journal: reject(journal, 2, by="ann", why=""), r"not the candidate \(that is version 5\)"),
    ],
)
def test_moves_that_make_no_sense_are_refused(
    journal: Journal, move: Callable[[Journal], object], message: str
) -> None:
    before = journal.entries()
    with pytest.raises(JobError, match=message):
        move(journal)
    assert journal.entries() == before


def test_a_candidate_is_dropped_by_hand(journal: Journal) -> None:
    moved = reject(journal, 5, by="ann", why="no label comes any more")
    assert (moved.did, moved.production, moved.former) == ("rejected version 5", 4, 4)
    assert journal.entries()[-1].move == Rejected(version=5, is_forced=True)
    assert journal.state().candidate is None
    with pytest.raises(JobError, match=r"not the candidate \(there is none\)"):
        reject(journal, 1, by="ann", why="")


def test_a_promotion_of_what_is_watched_ends_the_watch(journal: Journal) -> None:
    state = journal.append(Promoted(version=5, former=4, is_watched=True), by="cron", why="", after=journal.state())
    assert state.watched == (5,)
    moved = promote(journal, 5, by="ann", why="checked")
    assert moved.did == "the watch over version 5 ended; it stays in production"
    assert (moved.moved, moved.production, journal.state().watched, journal.state().shadow) == (True, 5, (), None)
    entry = journal.entries()[-1]
    assert entry.move == Confirmed(version=5, is_forced=True)
    assert move_sentence(entry.move) == "the watch over version 5 and those before it ended by hand"
    assert promote(journal, 5, by="ann", why="again").did == "version 5 is in production already; nothing was moved"


def test_a_rollback_takes_back_a_promotion_of_an_earlier_version_that_was_a_slip(journal: Journal) -> None:
    promote(journal, 2, by="ann", why="a slip")
    back = roll_back(journal, by="ann", why="it was 4")
    assert (back.moved, back.production, back.former) == (True, 4, 2)
    assert not roll_back(journal, by="ann", why="typed again").moved


@pytest.mark.parametrize(
    ("move", "said"),
    [
        (lambda journal: promote(journal, 5, by="ann", why=""), "version 5 is in production already"),
        (lambda journal: roll_back(journal, 2, by="ann", why=""), "version 2 is in production already"),
        (lambda journal: reject(journal, 5, by="ann", why=""), "version 5 was rejected already"),
    ],
)
def test_a_move_that_was_made_is_not_made_again(journal: Journal, move: Callable[[Journal], object], said: str) -> None:
    first = move(journal)
    entries = journal.entries()
    again = move(journal)
    assert (first.moved, again.moved) == (True, False)  # type: ignore[attr-defined]
    assert again.did == f"{said}; nothing was moved"  # type: ignore[attr-defined]
    assert again.production == first.production  # type: ignore[attr-defined]
    assert journal.entries() == entries


def test_a_version_without_its_classifier_is_not_put_into_production(journal: Journal) -> None:
    journal.store.delete(f"{version(2).folder}/card.json")
    with pytest.raises(JobError, match=r"classifier of version 2 is missing: expected .*nothing was moved"):
        roll_back(journal, by="ann", why="harm")
    assert journal.state().production == 4


def test_without_an_earlier_production_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    journal = open_local(tmp_path)
    state = journal.append(Registered(version=version(1)), by="ann", why="first", after=journal.state())
    journal.append(Promoted(version=1, former=None), by="ann", why="first", after=state)
    with pytest.raises(JobError, match="no earlier production to go back to: there is no other version yet"):
        roll_back(journal, by="ann", why="harm")
    journal.append(Registered(version=version(2)), by="ann", why="second", after=journal.state())
    with pytest.raises(JobError, match=r"version \(2\) into production: fewshot registry promote OUTPUT 2"):
        roll_back(journal, by="ann", why="harm")


def test_versions_are_listed_with_what_they_are_now(journal: Journal) -> None:
    listed = list_versions(journal)
    assert [each.state for each in listed.versions] == ["former", "former", "rejected", "production", "candidate"]
    assert (listed.production, listed.watched) == (4, False)
    assert not any(each.is_forced for each in listed.versions)
    journal.append(Pruned(versions=(1, 3)), by="ann", why="space", after=journal.state())
    promote(journal, 5, by="ann", why="checked")
    versions = list_versions(journal).versions
    assert [each.state for each in versions] == ["removed", "former", "removed", "former", "production"]
    assert [each.is_forced for each in versions] == [False, False, False, True, True]


def test_a_version_is_described_with_all_that_concerns_it(journal: Journal) -> None:
    details = describe_version(journal, 3)
    assert details.images_of_class == {"amber": 3, "blue": 0}
    assert [line.move["kind"] for line in details.moves] == ["registered", "rejected"]
    assert [line.did for line in details.moves] == [
        "version 3 was trained, beside version 2 in production",
        "version 3 was rejected",
    ]
    assert [(line.by, line.why) for line in details.moves] == [("cron", "a night"), ("cron", "worse")]
    with pytest.raises(JobError, match="no version 8"):
        describe_version(journal, 8)


def test_two_versions_are_compared_by_labels_and_settings(journal: Journal) -> None:
    diff = diff_versions(journal, 2, 4)
    assert (diff.added, diff.removed, diff.relabelled, diff.changed_classes) == (2, 0, 0, ("amber",))
    assert diff.settings["examples"] == (10, 12)
    assert "method" not in diff.settings
    assert diff_versions(journal, 4, 4).settings == {}
