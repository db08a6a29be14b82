"""Classifiers that nothing needs are removed with their twins, and all others stay."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import Store, acquire_lease
from cluster.errors import LeaseHeldError
from ray_jobs.errors import JobError
from ray_jobs.registry.changes import roll_back
from ray_jobs.registry.journal import Journal
from ray_jobs.registry.moves import Registered
from ray_jobs.registry.pruning import prune
from ray_jobs.results.registry_results import PruneResult
from ray_jobs.results.run_plan import RunPlan
from tests.ray_jobs.registry.registered import open_local, store_classifiers, version, with_classifiers


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Five versions with classifiers; 1, 2 and 4 were in production, 3 was rejected, 5 is the candidate."""
    return with_classifiers(open_local(tmp_path / "output"))


def remove(journal: Journal, *, keep: int = 2, dry_run: bool = False) -> PruneResult:
    return prune(journal, keep=keep, by="ann", why="space", dry_run=dry_run, term_s=1.0)


def run_with(classifier: str) -> bytes:
    """The plan of a run with a classifier."""
    return RunPlan(kind="evaluation", job="groceries", classes=2, features=(), classifier=classifier).to_bytes()


def numbers(journal: Journal) -> set[int]:
    """Versions whose classifiers and twins are both there whole; a folder without its counterpart fails."""
    files: dict[int, set[str]] = {}
    for path in journal.store.list("classifiers"):
        _, _, fingerprint, name = path.split("/")
        files.setdefault(int(fingerprint, 16), set()).add(name)
    assert all(found == {"classifier.safetensors", "card.json"} for found in files.values())
    whole = {number for number in files if number < 256}
    assert {number - 256 for number in files if number >= 256} == whole
    return whole


def test_what_nothing_needs_goes_with_its_twin_and_only_once(journal: Journal) -> None:
    done = remove(journal)
    assert numbers(journal) == {2, 4, 5}
    assert set(done.folders) == {folder for n in (1, 3) for folder in (version(n).folder, version(n).twin)}
    assert done.bytes == 16
    assert journal.state().pruned == {1, 3}
    again = remove(journal)
    assert (again.folders, [each.version for each in again.versions]) == ((), [2, 4, 5])
    assert len([entry for entry in journal.entries() if entry.move.kind == "pruned"]) == 1
    with pytest.raises(JobError, match="was removed; train it again"):
        roll_back(journal, 1, by="ann", why="harm")


def test_a_dry_run_shows_what_would_go_and_changes_nothing(journal: Journal) -> None:
    before = list(journal.store.list())
    shown = remove(journal, dry_run=True)
    assert list(journal.store.list()) == before
    assert [(each.version, each.state, each.stays, each.why) for each in shown.versions] == [
        (1, "former", False, "nothing needs it"),
        (2, "former", True, "restored by a rollback"),
        (3, "rejected", False, "nothing needs it"),
        (4, "production", True, "in production"),
        (5, "candidate", True, "the candidate"),
    ]
    done = remove(journal)
    assert replace(done, dry_run=True) == shown


def test_what_a_rollback_restores_stays_even_if_one_is_to_be_kept(journal: Journal) -> None:
    remove(journal, keep=1)
    assert numbers(journal) == {2, 4, 5}
    assert roll_back(journal, by="ann", why="harm").production == 2


@pytest.mark.parametrize("is_moved", [False, True])
def test_what_a_run_needs_stays_also_after_the_output_was_moved(
    journal: Journal, tmp_path: Path, is_moved: bool
) -> None:
    """A run with a stored classifier names it by the URL that it had then."""
    for run, number in (("runs/first", 1), ("runs/third", 3)):
        folder = version(number).folder
        place = journal.store.url(folder) if number == 1 else folder
        journal.store.put(f"{run}/plan.json", run_with(place))
    if is_moved:
        shutil.move(tmp_path / "output", tmp_path / "elsewhere")
        journal = open_local(tmp_path / "elsewhere")
    shown = remove(journal)
    assert numbers(journal) == {1, 2, 3, 4, 5}
    whys = {each.version: each.why for each in shown.versions}
    assert (whys[1], whys[3]) == ("needed by runs/first", "needed by runs/third")
    journal.store.delete("runs/third/plan.json")
    remove(journal)
    assert numbers(journal) == {1, 2, 4, 5}


def test_what_another_registry_of_the_output_needs_stays(journal: Journal) -> None:
    other = Journal(journal.store, "fruit")
    shared = replace(version(1), folder=version(3).folder, twin=version(3).twin)
    other.append(Registered(version=shared), by="cron", why="the same examples", after=other.state())
    shown = remove(journal)
    assert numbers(journal) == {2, 3, 4, 5}
    assert "needed by version 1 of the job fruit" in {each.why for each in shown.versions}


def test_a_plan_or_a_registry_that_cannot_be_read_stops_a_prune(journal: Journal) -> None:
    journal.store.put("runs/broken/plan.json", b"{")
    with pytest.raises(JobError, match=r"runs/broken/plan.json is damaged.* what this run needs is unknown"):
        remove(journal)
    journal.store.delete("runs/broken/plan.json")
    journal.store.put("registry/fruit/journal/000001.json", b"{")
    with pytest.raises(JobError, match=r"fruit/journal/000001.json is damaged"):
        remove(journal)
    assert numbers(journal) == {1, 2, 3, 4, 5}


def test_versions_that_share_a_classifier_stay_whole_as_long_as_one_is_needed(journal: Journal) -> None:
    """The sixth has the classifier of the first and the twin of the third."""
    shared = replace(version(6), folder=version(1).folder, twin=version(3).twin, labels=version(1).labels)
    journal.append(Registered(version=shared), by="cron", why="the labels of the first night", after=journal.state())
    shown = remove(journal)
    assert numbers(journal) == {1, 2, 3, 4}
    assert {each.version: each.why for each in shown.versions if "shares" in each.why} == {
        1: "version 6 shares it",
        3: "version 6 shares it",
    }


def test_a_prune_that_ended_halfway_is_finished_by_the_next_one(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = Store.delete

    def crash(store: Store, path: str) -> None:
        if path.startswith("classifiers"):
            raise KeyboardInterrupt
        delete(store, path)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete", crash)
        with pytest.raises(KeyboardInterrupt):
            remove(journal)
    assert numbers(journal) == {1, 2, 3, 4, 5}
    entries = journal.entries()
    assert len(remove(journal).folders) == 4
    assert (numbers(journal), journal.entries()) == ({2, 4, 5}, entries)


def test_a_removed_version_that_was_trained_again_for_a_run_stays(journal: Journal) -> None:
    remove(journal)
    store_classifiers(journal.store, version(1))
    journal.store.put("runs/later/plan.json", run_with(version(1).folder))
    remove(journal)
    assert f"{version(1).folder}/card.json" in list(journal.store.list("classifiers"))


def test_nothing_is_removed_while_a_job_of_the_output_is_retrained(journal: Journal) -> None:
    with acquire_lease(journal.store, "registry/groceries/lease", term_s=0.5), pytest.raises(LeaseHeldError):
        remove(journal)
    assert numbers(journal) == {1, 2, 3, 4, 5}


def test_no_turn_finds_a_classifier_that_is_about_to_go(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    delete = Store.delete
    refused: list[object] = []

    def turn_meanwhile(store: Store, path: str) -> None:
        if path.startswith("classifiers") and not refused:
            monkeypatch.setattr(Store, "delete", delete)
            with pytest.raises(LeaseHeldError) as error, acquire_lease(store, "registry/groceries/lease"):
                pass
            refused.append(error)
        delete(store, path)

    monkeypatch.setattr(Store, "delete", turn_meanwhile)
    remove(journal)
    assert refused
    assert numbers(journal) == {2, 4, 5}
