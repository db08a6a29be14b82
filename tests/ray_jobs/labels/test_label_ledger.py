"""The ledger in storage: batches that never meet, and labels that a job learns from."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from cluster import Store
from fewshot.digests import seal_json
from ray_jobs.errors import JobError
from ray_jobs.labels import ImageId, LabelEvent, LabelLedger, new_label

IMAGE = {"archive": "here", "image": "a.jpg", "answer": "label", "label": "cat", "reason": "review"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "labels"))


def test_two_people_at_once_lose_nothing(store: Store) -> None:
    def work(name: str) -> None:
        ledger = LabelLedger(store)
        for number in range(10):
            ledger.append([new_label(**IMAGE | {"image": f"{name}{number}.jpg", "by": name})])

    threads = [threading.Thread(target=work, args=(name,)) for name in ("ada", "bob", "cid")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = LabelLedger(store).events()
    assert len({event.id for event in events}) == 30
    assert {event.by for event in events} == {"ada", "bob", "cid"}


def test_an_event_is_later_than_all_that_its_writer_knew(store: Store) -> None:
    ahead = LabelLedger(store, clock=lambda: datetime(2030, 1, 1, tzinfo=UTC))
    behind = LabelLedger(store, clock=lambda: datetime(2020, 1, 1, tzinfo=UTC))
    ahead.append([new_label(**IMAGE, by="ada")])
    behind.append([new_label(**IMAGE | {"label": "dog"}, by="bob"), new_label(**IMAGE | {"label": "cow"}, by="bob")])
    assert LabelLedger(store).current().answers[ImageId("here", "a.jpg")].label == "cow"


def test_times_rise_with_every_event_although_the_clock_stands(store: Store) -> None:
    east = timezone(timedelta(hours=5))
    ledger = LabelLedger(store, clock=lambda: datetime(2026, 11, 30, 5, tzinfo=east))
    for _ in range(2):
        ledger.append([new_label(**IMAGE, by="ada") for _ in range(2)])
    times = [event.time for event in ledger.events()]
    assert times == [f"2026-11-30T00:00:00.{number:06}Z" for number in range(4)]


def test_two_batches_of_one_moment_are_two_objects(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LabelLedger, "events", lambda ledger: [])  # Neither writer has seen the other's batch.
    for name in ("ada", "bob"):
        LabelLedger(store, clock=lambda: datetime(2030, 1, 1, tzinfo=UTC)).append([new_label(**IMAGE, by=name)])
    assert len(list(store.list("events"))) == 2


def test_no_events_make_no_batch(store: Store) -> None:
    assert LabelLedger(store).append([]) == ()
    assert not list(store.list())


def test_undo_takes_an_event_back(store: Store) -> None:
    ledger = LabelLedger(store)
    (first,) = ledger.append([new_label(**IMAGE, by="ada")])
    (undone,) = ledger.undo([first.id], by="ada")
    assert not ledger.current().answers
    ledger.undo([undone.id], by="ada")
    assert ledger.current().answers
    with pytest.raises(JobError, match="no event 0000 to undo"):
        ledger.undo(["0000"], by="ada")


def test_batches_are_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = LabelLedger(store)
    ledger.append([new_label(**IMAGE, by="ada")])
    LabelLedger(store).append([new_label(**IMAGE, by="bob")])
    reads, get = list[str](), Store.get
    monkeypatch.setattr(Store, "get", lambda store, path: reads.append(path) or get(store, path))
    assert len(ledger.events()) == len(ledger.events()) == 2
    assert len(reads) == 1


def test_a_damaged_batch_stops_and_says_what_to_do(store: Store) -> None:
    LabelLedger(store).append([new_label(**IMAGE, by="ada")])
    (path,) = store.list("events")
    store.put(path, store.get(path).replace(b"cat", b"dog"))
    with pytest.raises(JobError, match="restore it from a copy, or move it away") as error:
        LabelLedger(store).events()
    assert "Delete it" not in str(error.value)


def test_a_newer_batch_asks_for_a_newer_version(store: Store) -> None:
    sealed = seal_json({"format_version": 2, "events": []})
    store.put("events/20261130T155001123456Z-3f9a1c0b7d22.json", json.dumps(sealed).encode())
    with pytest.raises(JobError, match="Upgrade fewshot") as error:
        LabelLedger(store).events()
    assert "restore" not in str(error.value)


def test_files_of_other_kinds_are_no_batches(store: Store) -> None:
    store.put("events/notes.txt", b"remember the cows")
    assert LabelLedger(store).append([new_label(**IMAGE, by="ada")])
    assert len(LabelLedger(store).events()) == 1


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"label": None}, "expected a label"),
        ({"answer": "unknown"}, "expected a label"),
        ({"reason": "audit"}, "draw and the probability"),
        ({"probability": 0.0}, r"in \(0, 1\]"),
        ({"probability": 1.1}, r"in \(0, 1\]"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        new_label(**{**IMAGE, "by": "ada", **values})
    assert new_label(**IMAGE, by="ada", probability=1.0).probability == 1.0
    with pytest.raises(ValueError, match="ID of 32"):
        LabelEvent(**{**IMAGE, "by": "ada", "id": "abc", "time": "2026-11-30T12:00:00.000001Z"})
    with pytest.raises(ValueError, match="expected a time such as"):
        LabelEvent(**{**IMAGE, "by": "ada", "id": "0" * 32, "time": "2026-11-30T12:00:00.1Z"})
    with pytest.raises(ValueError, match="that others can be later than"):
        LabelEvent(**{**IMAGE, "by": "ada", "id": "0" * 32, "time": "9999-12-31T23:59:59.999999Z"})
    with pytest.raises(ValueError, match="does not match format"):
        LabelEvent(**{**IMAGE, "by": "ada", "id": "0" * 32, "time": "yesterday"})
