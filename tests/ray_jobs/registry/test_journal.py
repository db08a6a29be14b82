"""The journal in storage: one move at a time, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cluster import Store
from ray_jobs.errors import JobError
from ray_jobs.registry.journal import Journal, RegistryMovedError, jobs_with_registry
from ray_jobs.registry.moves import Promoted, Registered
from ray_jobs.registry.registry_state import RegistryState
from tests.ray_jobs.registry.registered import Clock, open_local, version, with_versions

FIRST = "registry/groceries/journal/000001.json"


def test_moves_are_read_back_as_they_were_made(tmp_path: Path) -> None:
    journal = open_local(tmp_path)
    state = with_versions(journal, 2)
    other = Journal(Store(str(tmp_path)), "groceries")
    assert other.entries() == journal.entries()
    assert other.state() == state
    assert [entry.move.kind for entry in other.entries()] == ["registered", "promoted", "registered"]
    assert [entry.sequence for entry in other.entries()] == [1, 2, 3]
    assert sorted(entry.time for entry in other.entries()) == [entry.time for entry in other.entries()]
    assert {entry.by for entry in other.entries()} == {"ann"}
    assert jobs_with_registry(journal.store) == ["groceries"]


def test_two_jobs_of_an_output_have_registries_of_their_own(tmp_path: Path) -> None:
    with_versions(open_local(tmp_path), 1)
    assert Journal(Store(str(tmp_path)), "other").state() == RegistryState()


def test_who_decided_on_an_earlier_state_is_told_and_moves_nothing(tmp_path: Path) -> None:
    first = open_local(tmp_path)
    state = with_versions(first, 2)
    second = open_local(tmp_path)
    second.append(Promoted(version=2, former=1), by="bob", why="it looks good", after=second.state())
    with pytest.raises(RegistryMovedError, match=r"promoted by bob at .* \(it looks good\). Nothing was done"):
        first.append(Registered(version=version(3)), by="ann", why="a night", after=state)
    assert len(first.entries()) == 4


def test_the_second_of_two_writes_at_once_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have looked, and nothing was there; then both write."""
    first, second = open_local(tmp_path), open_local(tmp_path)
    state = with_versions(first, 2)
    assert second.state() == state
    put = Store.put_if_absent

    def put_second(store: Store, path: str, data: bytes) -> bool:
        monkeypatch.setattr(Store, "put_if_absent", put)
        second.append(Promoted(version=2, former=1), by="bob", why="first", after=state)
        return put(store, path, data)

    monkeypatch.setattr(Store, "put_if_absent", put_second)
    with pytest.raises(RegistryMovedError, match="promoted by bob"):
        first.append(Registered(version=version(3)), by="ann", why="a night", after=state)
    assert first.state().production == 2


def test_a_move_that_cannot_be_made_writes_nothing(tmp_path: Path) -> None:
    journal = open_local(tmp_path)
    state = with_versions(journal, 1)
    with pytest.raises(JobError, match="in production already"):
        journal.append(Promoted(version=1, former=1), by="ann", why="again", after=state)
    assert len(journal.entries()) == 2


def change_a_byte(folder: Path) -> None:
    path = folder / FIRST
    path.write_bytes(path.read_bytes().replace(b"ann", b"bob"))


def exchange_an_entry(folder: Path) -> None:
    """An entry that is whole, but another one than the next one continues."""
    other = open_local(folder / "other")
    with_versions(other, 1)
    (folder / FIRST).write_bytes((folder / "other" / FIRST).read_bytes())


def remove_the_first(folder: Path) -> None:
    (folder / FIRST).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_a_byte, "000001.json is damaged"),
        (exchange_an_entry, "000002.json does not continue the entry before it"),
        (remove_the_first, "000001.json is missing"),
    ],
)
def test_a_journal_that_was_changed_is_refused(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    with_versions(open_local(tmp_path), 2)
    damage(tmp_path)
    with pytest.raises(JobError, match=f"{message}.*Restore .* from a copy"):
        open_local(tmp_path).state()


def test_an_entry_is_later_than_the_one_before_it_whatever_clocks_say(tmp_path: Path) -> None:
    journal = open_local(tmp_path)
    state = with_versions(journal, 1)
    late = Journal(journal.store, "groceries", clock=Clock())
    late.append(Registered(version=version(2)), by="bob", why="his clock is slow", after=state)
    times = [entry.time for entry in late.entries()]
    assert times == sorted(set(times))
