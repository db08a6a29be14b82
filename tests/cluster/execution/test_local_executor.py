from __future__ import annotations

import _thread
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from cluster import (
    Event,
    Ledger,
    LocalExecutor,
    Part,
    Retry,
    StageReport,
    Store,
    Unit,
    UnitDone,
    UnitFailed,
    UnitSkipped,
    WorkerBrokenError,
    Workers,
    WorkersReady,
    WorkerStartError,
    run_stage,
)
from tests.cluster.faulty import faults, write_temporary_file
from tests.cluster.steps import BrokenSetup, Raising, Square, marks, units

EXECUTOR = LocalExecutor(retry=Retry(first_delay_s=1e-3))


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(Store(f"memory://{uuid4().hex}"))


def run(step: Any, work: Any, ledger: Ledger, **workers: int) -> StageReport:
    return run_stage(EXECUTOR, step, work, ledger, Workers(**workers))


def test_every_unit_commits_its_part_and_is_counted(ledger: Ledger, tmp_path: Path) -> None:
    report = run(Square(tmp_path), units(5), ledger)
    assert (report.done, report.skipped, report.failed, report.workers_lost) == (5, 0, 0, 0)
    assert (report.weight_done, report.summary["images"]) == (50, 50)
    assert {path: ledger.store.get(path) for path in ledger.done("out")} == {
        f"out/{index:04}.bin": str(index**2).encode() * 100 for index in range(5)
    }


def test_done_units_are_skipped_without_starting_a_worker(ledger: Ledger, tmp_path: Path) -> None:
    run(Square(tmp_path / "first"), units(4), ledger)
    events = list(LocalExecutor().run(Square(tmp_path / "again"), units(4), ledger, Workers()))
    assert events == [UnitSkipped(unit.path, 10) for unit in units(4)]
    assert marks(tmp_path / "again/setups") == 0


def test_only_missing_parts_are_computed_again(ledger: Ledger, tmp_path: Path) -> None:
    run(Square(tmp_path / "first"), units(4), ledger)
    ledger.store.delete("out/0002.bin")
    report = run(Square(tmp_path / "again"), units(4), ledger)
    assert (report.done, report.skipped, report.weight_skipped) == (1, 3, 30)
    assert marks(tmp_path / "again/runs/2") == 1


def test_a_folder_is_listed_once_for_all_its_units(tmp_path: Path) -> None:
    with faults() as filesystem:
        run(Square(tmp_path), units(20, folder="a") + units(20, folder="b"), Ledger(Store("faulty://one")))
        assert filesystem.calls.count("list") == 2
        assert filesystem.calls.count("look up") == 0


def test_a_unit_that_raises_is_reported_and_not_retried(ledger: Ledger, tmp_path: Path) -> None:
    work = [*units(3), Unit("out/bad", {"index": 7, "kind": "raises"}, weight=4)]
    report = run(Square(tmp_path), work, ledger, max_attempts=4)
    (failure,) = report.failures
    assert (report.done, report.failed, report.weight_failed) == (3, 1, 4)
    assert failure.path == "out/bad"
    assert failure.attempts == 1
    assert failure.error.startswith("ValueError: no square of 7 (in run, steps.py:")
    assert marks(tmp_path / "runs/7") == 1


@pytest.mark.parametrize(
    ("kind", "start", "end"),
    [
        ("exits", "SystemExit: 0", ""),
        ("panics", "Panic: in native code", ""),
        ("is interrupted", "KeyboardInterrupt", ""),
        ("is mute", "MuteError: (no message)", ""),
        ("talks", "ValueError: several lines", "noise with the reason last"),
        ("is no Unicode", "ValueError: a name that ends in \\udcff", ""),
    ],
)
def test_any_exception_of_a_unit_is_reported_on_one_line(ledger: Ledger, kind: str, start: str, end: str) -> None:
    report = run(Raising(), [Unit(f"out/{kind}", kind) for kind in ("a", kind, "b", "c")], ledger)
    (failure,) = report.failures
    assert (report.done, failure.attempts) == (3, 1)
    message, _, place = failure.error.rpartition(" (in run, steps.py:")
    assert message.startswith(start)
    assert message.endswith(end)
    assert place
    assert len(failure.error.encode()) < 3000
    assert "\n" not in failure.error


@pytest.mark.parametrize(("kind", "done", "runs"), [("storage recovers", 1, 3), ("storage stays down", 0, 4)])
def test_storage_errors_of_a_unit_are_retried(ledger: Ledger, tmp_path: Path, kind: str, done: int, runs: int) -> None:
    report = run(Square(tmp_path), units(1, kind=kind), ledger, max_attempts=4)
    assert (report.done, marks(tmp_path / "runs/0")) == (done, runs)
    assert [failure.attempts for failure in report.failures] == [4] * (1 - done)


def test_a_broken_process_stops_the_stage(ledger: Ledger, tmp_path: Path) -> None:
    work = [*units(2), Unit("out/broken", {"index": 2, "kind": "breaks its worker"}), *units(2, folder="later")]
    with pytest.raises(WorkerBrokenError, match="the GPU is lost"):
        run(Square(tmp_path), work, ledger)
    assert ledger.done("out") == {unit.path for unit in work[:2]}


def test_a_failed_setup_stops_before_any_unit(ledger: Ledger) -> None:
    with pytest.raises(WorkerStartError, match=r"BrokenSetup\.setup failed: FileNotFoundError: no weights"):
        run(BrokenSetup(), units(2), ledger)
    assert ledger.done("") == frozenset()


def test_consecutive_equal_steps_share_one_setup(ledger: Ledger, tmp_path: Path) -> None:
    with LocalExecutor() as executor:
        for folder, name in (("a", "x"), ("b", "x"), ("c", "y"), ("d", "x")):
            run_stage(executor, Square(tmp_path, name), units(2, folder=folder), ledger, Workers())
    assert marks(tmp_path / "setups") == 3


def test_units_are_pulled_only_as_they_finish(ledger: Ledger, tmp_path: Path) -> None:
    pulled = 0

    def endless() -> Iterator[Unit]:
        nonlocal pulled
        while True:
            yield Unit(f"out/{pulled}", {"index": pulled, "kind": "plain"})
            pulled += 1

    done = 0
    events = LocalExecutor().run(Square(tmp_path), endless(), ledger, Workers(overlap=2))
    for event in events:
        done += isinstance(event, UnitDone)
        assert pulled <= done + 2
        if done == 10:
            break
    events.close()
    assert len(ledger.done("out")) <= 12


def test_the_first_event_is_workers_ready(ledger: Ledger, tmp_path: Path) -> None:
    events = list(LocalExecutor().run(Square(tmp_path), units(2), ledger, Workers()))
    assert events[0] == WorkersReady(1, "this process")
    assert all(isinstance(event, UnitDone) and event.seconds >= 0 for event in events[1:])


def test_a_report_adds_up_the_seconds_of_units(ledger: Ledger, tmp_path: Path) -> None:
    seen: list[Event] = []
    report = run_stage(EXECUTOR, Square(tmp_path), units(3), ledger, Workers(), seen.append)
    assert report.units_s == sum(event.seconds for event in seen if isinstance(event, UnitDone))


@dataclass(frozen=True)
class Meeting:
    """Every unit waits until another one runs at the same time."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=60), compare=False)

    def setup(self) -> None:
        return None

    def run(self, state: None, payload: Any) -> Part:
        self.barrier.wait()
        return Part(b"")


def test_overlap_is_the_number_of_concurrent_units(ledger: Ledger) -> None:
    assert run(Meeting(), units(4), ledger, overlap=2).done == 4
    assert run(Meeting(threading.Barrier(2, timeout=0.1)), units(1, folder="b"), ledger, overlap=1).failed == 1


@dataclass(frozen=True)
class InterruptedAt:
    """The user presses Ctrl-C while this unit runs."""

    index: int

    def setup(self) -> None:
        return None

    def run(self, state: None, payload: Any) -> Part:
        if payload["index"] == self.index:
            _thread.interrupt_main()
        return Part(b"whole")


def test_an_interrupt_leaves_whole_parts_and_can_be_resumed(ledger: Ledger) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(InterruptedAt(3), units(50), ledger)
    committed = ledger.done("out")
    assert 3 <= len(committed) <= 8
    assert {ledger.store.get(path) for path in committed} == {b"whole"}
    report = run(InterruptedAt(-1), units(50), ledger)
    assert (report.skipped, report.done) == (len(committed), 50 - len(committed))


def test_an_exception_of_on_event_stops_the_work(ledger: Ledger, tmp_path: Path) -> None:
    def fail(event: Any) -> None:
        if isinstance(event, UnitDone):
            raise BrokenPipeError("stdout is closed")

    with pytest.raises(BrokenPipeError):
        run_stage(EXECUTOR, Square(tmp_path), units(50), ledger, Workers(), on_event=fail)
    assert len(ledger.done("out")) <= 4


def test_failures_are_sorted_by_path(ledger: Ledger, tmp_path: Path) -> None:
    report = run(Square(tmp_path), reversed(units(6, kind="raises")), ledger, overlap=3)
    assert [failure.path for failure in report.failures] == [unit.path for unit in units(6)]
    assert all(isinstance(failure, UnitFailed) for failure in report.failures)


def test_stale_files_are_removed_before_the_first_unit(tmp_path: Path) -> None:
    ledger = Ledger(Store(str(tmp_path / "store")))
    first, second = (write_temporary_file(tmp_path / "store" / folder, 1e5) for folder in ("a", "b"))
    run(Square(tmp_path), units(3, folder="a"), ledger)
    assert (first.exists(), second.exists()) == (False, True)
