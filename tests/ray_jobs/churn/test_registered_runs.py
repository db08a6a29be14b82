"""Runs by the number of a version, classes that were renamed between versions, and the command that undoes a change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.churn import churn_report, ensure_churn, find_run, read_churn, write_churn
from ray_jobs.errors import JobError
from ray_jobs.output.latest_runs import LATEST
from ray_jobs.output.layout import CHURN_PAGE, PLAN
from ray_jobs.output.runs import Run
from ray_jobs.registry.journal import Journal
from ray_jobs.registry.learned_labels import LearnedLabels
from ray_jobs.registry.moves import Promoted, Pruned, Registered
from tests.ray_jobs.churn.two_runs import FORMER, PRESENT, TwoRuns, in_shards, row
from tests.ray_jobs.registry.registered import open_local, version

FIRST = {"x": ("amber",), "y": ("blue",)}


def with_registry(runs: TwoRuns, labels: Mapping[int, Mapping[str, tuple[str, ...]]], *promoted: int) -> Journal:
    """Register a version with labels for each number, and promote some of them."""
    journal = open_local(Path(runs.store.root))
    state = journal.state()
    for number, of_content in labels.items():
        classes = tuple(sorted({name for names in of_content.values() for name in names}))
        digest = LearnedLabels(classes, of_content).put(journal.store, journal.folder)
        registered = Registered(version=version(number, labels=digest))
        state = journal.append(registered, by="ann", why="a night", after=state)
    for number in promoted:
        move = Promoted(version=number, former=state.production)
        state = journal.append(move, by="ann", why="better", after=state)
    return journal


def two_runs(runs: TwoRuns) -> tuple[Run, Run]:
    return runs.both([row("a.png", "amber"), row("b.png", "blue")], [row("a.png", "gold"), row("b.png", "gold")])


def page_of(runs: TwoRuns) -> str:
    html = runs.store.get(f"{PRESENT}/{CHURN_PAGE}").decode()
    return unescape(html.replace("<wbr>", "").replace("<bdi>", "").replace("</bdi>", "").replace("\u00a0", " "))


def find(runs: TwoRuns, version: str, like: Run | None = None) -> Run:
    return find_run(f"{runs.store.root}{version}", DEFAULT_STORAGE, like=like)


def test_the_run_of_a_version_is_found_after_the_output_was_moved(tmp_path: Path) -> None:
    runs = TwoRuns(tmp_path)
    former, present = two_runs(runs)
    with_registry(runs, {1: FIRST, 2: FIRST}, 1, 2)
    elsewhere = replace(present.plan, classifier=f"/before/the/move/{present.plan.classifier}")
    runs.store.put(f"{PRESENT}/{PLAN}", elsewhere.to_bytes())
    found = find(runs, "@2")
    churn = write_churn(former, found)
    assert (found.name, churn.before.version, churn.after.version) == (present.name, 1, 2)


def test_classes_that_the_labels_of_versions_tell_are_renamed(tmp_path: Path) -> None:
    runs = TwoRuns(tmp_path)
    former, present = two_runs(runs)
    with_registry(runs, {1: FIRST, 2: {"x": ("gold",), "y": ("blue",)}}, 1, 2)
    churn = write_churn(former, present)
    assert churn.renamed == (("amber", "gold"),)
    assert [(pair.before, pair.after) for pair in churn.pairs] == [("blue", "gold")]
    assert (churn.before.version, churn.after.version) == (1, 2)
    assert write_churn(former, present, renamed={}).flipped == 2
    journal = open_local(Path(runs.store.root))
    runs.store.delete(f"{journal.folder}/labels/{journal.state().version(1).labels}.json")
    assert write_churn(former, present).renamed == ()


def test_the_page_has_the_command_that_undoes_it(tmp_path: Path) -> None:
    runs = TwoRuns(tmp_path)
    former, present = two_runs(runs)
    write_churn(former, present)
    assert "To undo it" not in page_of(runs)
    journal = with_registry(runs, {1: FIRST, 2: FIRST, 3: FIRST}, 2)
    write_churn(former, present)
    place = runs.store.root
    assert f'fewshot registry promote {place} 1 --job groceries --why "…"' in page_of(runs)
    state = journal.append(Promoted(version=1, former=2), by="ann", why="w", after=journal.state())
    state = journal.append(Promoted(version=2, former=1), by="ann", why="w", after=state)
    write_churn(former, present)
    assert f'fewshot registry rollback {place} --to 1 --job groceries --why "…"' in page_of(runs)
    assert "version 1 (groceries-000000000001) → version 2 (groceries-000000000002)" in (
        page_of(runs).replace("<code>", "").replace("</code>", "")
    )
    state = journal.append(Promoted(version=3, former=2), by="ann", why="w", after=state)
    journal.append(Pruned(versions=(1,)), by="ann", why="w", after=state)
    write_churn(former, present)
    assert "To undo it" not in page_of(runs)


def test_runs_of_the_same_version_have_nothing_to_undo(tmp_path: Path) -> None:
    runs = TwoRuns(tmp_path)
    former = runs.write(FORMER, in_shards([row("a.png", "amber")], 4), number=1)
    present = runs.write(PRESENT, in_shards([row("a.png", "amber"), row("b.png", "blue")], 4), number=1)
    with_registry(runs, {1: FIRST}, 1)
    churn = write_churn(former, present)
    assert (churn.before.version, churn.after.version, churn.new) == (1, 1, 1)
    assert "To undo it" not in page_of(runs)


def test_a_classifier_that_was_registered_twice_is_its_newest_version(tmp_path: Path) -> None:
    runs = TwoRuns(tmp_path)
    former, present = two_runs(runs)
    journal = with_registry(runs, {1: FIRST, 2: FIRST}, 1)
    first = journal.state().version(1)
    again = replace(version(3, labels=first.labels), folder=first.folder, classifier=first.classifier)
    journal.append(Registered(version=again), by="ann", why="again", after=journal.state())
    assert write_churn(former, present).before.version == 3


def test_a_damaged_registry_costs_the_versions_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runs = TwoRuns(tmp_path)
    former, present = two_runs(runs)
    journal = with_registry(runs, {1: FIRST, 2: FIRST}, 1)
    runs.store.put(f"{journal.folder}/journal/000001.json", b"{}")
    churn = write_churn(former, present)
    assert (churn.flipped, churn.before.version) == (2, None)
    assert "version of a run not known" in caplog.text


def test_after_a_promotion_production_is_compared_once_with_the_version_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = TwoRuns(tmp_path)
    former, present = two_runs(runs)
    journal = with_registry(runs, {1: FIRST, 2: FIRST}, 1)
    assert ensure_churn(journal, former) is None
    state = journal.append(Promoted(version=2, former=1), by="ann", why="better", after=journal.state())
    churn = ensure_churn(journal, present)
    assert churn is not None
    assert (churn.before.version, churn.after.version, churn.flipped) == (1, 2, 2)
    assert read_churn(present) == churn
    with monkeypatch.context() as patch:
        patch.setattr(churn_report, "write_churn", lambda *_: pytest.fail("it was done"))
        assert ensure_churn(journal, present) == churn
    journal.append(Promoted(version=1, former=2), by="ann", why="back", after=state)
    back = ensure_churn(journal, former)
    assert back is not None
    assert (back.before.version, back.after.version) == (2, 1)


def test_a_comparison_after_a_promotion_never_fails_the_turn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runs = TwoRuns(tmp_path)
    _, present = two_runs(runs)
    journal = with_registry(runs, {1: FIRST, 2: FIRST, 3: FIRST}, 3, 2)
    assert ensure_churn(journal, present) is None
    assert caplog.text == ""  # Version 3 was moved on before it labelled anything.
    journal.store.put(f"{journal.folder}/journal/000001.json", b"{}")
    assert ensure_churn(Journal(runs.store, journal.job), present) is None
    assert "no churn run=groceries-000000000002 error=" in caplog.text
    assert read_churn(present) is None


def test_runs_are_found_by_folder_output_and_version(tmp_path: Path) -> None:
    runs = TwoRuns(tmp_path)
    _, present = two_runs(runs)
    with_registry(runs, {1: FIRST, 2: FIRST, 3: FIRST}, 1)
    assert find(runs, f"/{FORMER}").folder == FORMER
    assert find(runs, "").folder == PRESENT
    assert (find(runs, "@1").folder, find(runs, "@2").folder) == (FORMER, PRESENT)
    with pytest.raises(JobError, match=r"no complete run of the job groceries .* was made by version 3"):
        find(runs, "@3")
    runs.write("runs/groceries-000000000003", in_shards([row("a.png", "gold")], 4), number=3, complete=False)
    with pytest.raises(JobError, match="no complete run"):
        find(runs, "@3")
    with pytest.raises(JobError, match="has no version 9"):
        find(runs, "@9")
    elsewhere = tmp_path / "a@1"
    Path(runs.store.root).rename(elsewhere)
    assert find_run(f"{elsewhere}/", DEFAULT_STORAGE).name == present.name


def test_of_several_runs_of_a_version_the_most_alike_or_the_newest_is_taken(tmp_path: Path) -> None:
    runs = TwoRuns(tmp_path)
    rows = [row(f"{n}.png", "amber") for n in range(9)]
    runs.write(FORMER, in_shards(rows[:3], 3), number=1)
    later = runs.write("runs/groceries-000000000009", in_shards(rows, 3), number=1)
    present = runs.write(PRESENT, in_shards(rows[:6], 3), number=2)
    with_registry(runs, {1: FIRST, 2: FIRST}, 1)
    assert find(runs, "@1", like=present).folder == later.folder
    small = runs.write("runs/groceries-000000000008", in_shards(rows[:2], 3), number=2)
    assert find(runs, "@2").folder == small.folder
    with pytest.raises(JobError, match=r"version 1 made several runs; name the folder of one: .*000001, .*000009"):
        find(runs, "@1")
    runs.store.delete(LATEST)
    with pytest.raises(JobError, match="several runs"):
        find(runs, "@1")


def test_a_version_of_an_output_without_a_registry_is_refused(tmp_path: Path) -> None:
    runs = TwoRuns(tmp_path)
    two_runs(runs)
    with pytest.raises(JobError, match="has no registry, so version 1 is not known"):
        find(runs, "@1")
    with_registry(runs, {1: FIRST}, 1)
    with pytest.raises(JobError, match="has registries of the jobs groceries"):
        find_run(f"{runs.store.root}@1", DEFAULT_STORAGE, job="flowers")
