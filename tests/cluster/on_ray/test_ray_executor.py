from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import OutOfMemoryError
from ray.experimental.internal_kv import _internal_kv_list

from cluster import (
    Helpers,
    Ledger,
    LocalExecutor,
    RayExecutor,
    StorageError,
    Store,
    Unit,
    UnitDone,
    UnitSkipped,
    WorkerLost,
    Workers,
    WorkersReady,
    WorkerStartError,
    run_stage,
)
from cluster.execution.events import Event
from cluster.execution.schedule import LOOKAHEAD
from cluster.on_ray.actor import _PreparedStep
from cluster.on_ray.worker_pool import loss_reason
from tests.cluster.steps import BrokenSetup, Device, DiesInTools, Raising, SplitSquare, Square, marks, units

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


@pytest.fixture(autouse=True)
def stable_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attribute losses at once: no node dies in these tests. Helpers may start late on a busy machine."""
    monkeypatch.setattr("cluster.execution.loss_attribution._REPORTED_GRACE_S", 0.1)
    monkeypatch.setattr("cluster.on_ray.stage_run._CHECK_NODES_EVERY_S", 0.1)
    monkeypatch.setattr("cluster.on_ray.helpers._TASK_TIMEOUT_S", 120.0)


@pytest.fixture
def executor() -> Iterator[RayExecutor]:
    with RayExecutor() as executor:
        yield executor


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(str(tmp_path / "store")))


def contents(ledger: Ledger) -> dict[str, bytes]:
    return {path: ledger.store.get(path) for path in ledger.done("")}


def test_every_executor_and_worker_count_gives_the_same_bytes(executor: RayExecutor, tmp_path: Path) -> None:
    found = []
    for name, runner, count in (("local", LocalExecutor(), 1), ("one", executor, 1), ("three", executor, 3)):
        ledger = Ledger(Store(str(tmp_path / name)))
        report = run_stage(runner, Square(tmp_path / "scratch"), units(12), ledger, Workers(count=count))
        assert (report.done, report.failed, report.summary["images"]) == (12, 0, 120)
        found.append(contents(ledger))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 12


def test_done_units_are_skipped_and_start_no_worker(executor: RayExecutor, ledger: Ledger, tmp_path: Path) -> None:
    run_stage(LocalExecutor(), Square(tmp_path / "first"), units(6), ledger, Workers())
    again = Square(tmp_path / "again")
    events = list(executor.run(again, units(6), ledger, Workers(count=2)))
    assert events == [UnitSkipped(unit.path, 10) for unit in units(6)]
    ledger.store.delete("out/0003.bin")
    report = run_stage(executor, again, units(6), ledger, Workers(count=2))
    assert (report.skipped, report.done) == (5, 1)
    assert marks(tmp_path / "again/setups") == 1


def test_equal_steps_reuse_live_workers(executor: RayExecutor, ledger: Ledger, tmp_path: Path) -> None:
    pids = []
    for folder in "ab":
        report = run_stage(executor, Square(tmp_path), units(2, folder=folder), ledger, Workers())
        pids.append(report.summary["pid"])
    assert pids[0] == pids[1]
    assert marks(tmp_path / "setups") == 1


def test_a_worker_prefers_units_whose_needs_it_had_in_an_earlier_run(
    executor: RayExecutor, ledger: Ledger, tmp_path: Path
) -> None:
    first, other, same = (replace(unit, needs=(need,)) for unit, need in zip(units(3), "xyx", strict=True))
    run_stage(executor, Square(tmp_path), [first], ledger, Workers(overlap=1))
    events = list(executor.run(Square(tmp_path), [other, same], ledger, Workers(overlap=1)))
    assert [event.path for event in events if isinstance(event, UnitDone)] == [same.path, other.path]


def test_more_units_with_needs_than_are_looked_at_all_run(
    executor: RayExecutor, ledger: Ledger, tmp_path: Path
) -> None:
    work = [replace(unit, needs=(index % 7,)) for index, unit in enumerate(units(LOOKAHEAD + 20))]
    assert run_stage(executor, Square(tmp_path / "ray"), work, ledger, Workers(count=2)).done == len(work)
    plain = Ledger(Store("memory://needs"))
    run_stage(LocalExecutor(), Square(tmp_path / "local"), units(len(work)), plain, Workers())
    assert contents(ledger) == contents(plain)


def test_a_step_stops_idle_workers_of_another(executor: RayExecutor, ledger: Ledger, tmp_path: Path) -> None:
    for folder in "ab":
        step = Square(tmp_path / folder)
        assert run_stage(executor, step, units(2, folder=folder), ledger, Workers(cpus=3)).done == 2


def test_a_killed_worker_costs_one_attempt_and_changes_no_byte(
    executor: RayExecutor, ledger: Ledger, tmp_path: Path
) -> None:
    work = units(6)
    work[2] = Unit(work[2].path, {"index": 2, "kind": "is killed once"}, weight=10)
    report = run_stage(executor, Square(tmp_path / "ray"), work, ledger, Workers(overlap=1))
    assert (report.done, report.failed, report.workers_lost) == (6, 0, 1)
    assert [marks(tmp_path / f"ray/runs/{index}") for index in range(6)] == [1, 1, 2, 1, 1, 1]
    plain = Ledger(Store("memory://killed"))
    run_stage(LocalExecutor(), Square(tmp_path / "local"), units(6), plain, Workers())
    assert contents(ledger) == contents(plain)


def test_only_the_unit_that_kills_its_worker_is_given_up(executor: RayExecutor, ledger: Ledger, tmp_path: Path) -> None:
    work = units(6, kind="slow")
    work[1] = Unit("out/poison", {"index": 1, "kind": "kills its worker"})
    report = run_stage(executor, Square(tmp_path), work, ledger, Workers(overlap=2, max_attempts=2))
    (failure,) = report.failures
    assert (report.done, report.workers_lost) == (5, 2)
    assert (failure.path, failure.attempts) == ("out/poison", 2)
    assert "its worker died 2 times" in failure.error


def test_a_hanging_unit_is_duplicated_on_an_idle_worker(
    executor: RayExecutor, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.execution.schedule._MIN_SLOW_S", 0.5)
    work = [Unit(f"out/{name}", (name, 0.01, 0.01)) for name in range(8)]
    work[5] = Unit("out/5", (5, 3600.0, 0.01))
    seen: list[Event] = []
    report = run_stage(executor, Device(tmp_path), work, ledger, Workers(count=2, overlap=1), seen.append)
    assert (report.done, report.failed, report.workers_lost) == (8, 0, 0)
    assert sorted(event.path for event in seen if isinstance(event, UnitDone)) == [unit.path for unit in work]
    assert [marks(tmp_path / str(name)) for name in range(8)] == [1, 1, 1, 1, 1, 2, 1, 1]


def test_a_unit_that_raises_is_reported_and_not_retried(executor: RayExecutor, ledger: Ledger, tmp_path: Path) -> None:
    work = [*units(3), Unit("out/bad", {"index": 7, "kind": "raises"})]
    report = run_stage(executor, Square(tmp_path), work, ledger, Workers())
    (failure,) = report.failures
    assert (report.done, failure.attempts, marks(tmp_path / "runs/7")) == (3, 1, 1)
    assert failure.error.startswith("ValueError: no square of 7 (in run, steps.py:")


def test_any_exception_of_a_unit_is_reported(executor: RayExecutor, ledger: Ledger) -> None:
    kinds = ["a", "exits", "panics", "is mute", "talks", "b"]
    report = run_stage(executor, Raising(), [Unit(kind, kind) for kind in kinds], ledger, Workers(max_attempts=2))
    assert report.done == 2
    errors = {failure.path: failure.error for failure in report.failures}
    reasons = {"exits": "its worker died", "panics": "in native code", "is mute": "Mute", "talks": "reason last"}
    assert errors.keys() == reasons.keys()
    assert all(reason in errors[kind] and len(errors[kind]) < 3000 for kind, reason in reasons.items())


def test_helpers_get_their_tools_from_a_live_worker(executor: RayExecutor, ledger: Ledger, tmp_path: Path) -> None:
    workers = Workers(helpers=Helpers(count=2))
    report = run_stage(executor, DiesInTools(tmp_path, work_s=0.05, device_s=0.05), units(16), ledger, workers)
    assert (report.done, report.workers_lost) == (16, 1)
    assert report.summary["from elsewhere"] > 0


def test_helpers_register_one_function_for_all_units(executor: RayExecutor, ledger: Ledger, tmp_path: Path) -> None:
    def functions() -> int:
        return len(_internal_kv_list(b"RemoteFunction:", namespace="fun"))

    before = functions()
    report = run_stage(executor, SplitSquare(tmp_path), units(20), ledger, Workers(helpers=Helpers(count=2)))
    assert report.summary["from elsewhere"] > 0
    assert functions() == before + 1


def test_a_lost_result_of_a_helper_is_computed_by_the_worker(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.on_ray.actor._FETCH_TIMEOUTS_S", (0.1, 3600.0))
    never = ray.remote(lambda: None).options(resources={"a node that left": 1}).remote()
    step, (unit,) = SplitSquare(tmp_path), units(1)
    assert _PreparedStep(step, never).run(threading.Lock(), unit.payload).summary == {"from elsewhere": False}


def test_a_setup_that_raises_stops_the_stage_with_its_traceback(executor: RayExecutor, ledger: Ledger) -> None:
    with pytest.raises(WorkerStartError, match=r"(?s)steps\.py.*FileNotFoundError: no weights at models"):
        run_stage(executor, BrokenSetup(), units(3), ledger, Workers(count=2))
    assert contents(ledger) == {}


def test_a_setup_that_kills_its_worker_stops_the_stage(executor: RayExecutor, ledger: Ledger) -> None:
    with pytest.raises(WorkerStartError, match="2 workers in a row died while starting"):
        run_stage(executor, BrokenSetup(kills=True), units(3), ledger, Workers(max_attempts=2))


def test_a_worker_that_cannot_be_placed_stops_the_stage(ledger: Ledger, tmp_path: Path) -> None:
    with RayExecutor(capacity_timeout_s=0.5) as executor, pytest.raises(WorkerStartError) as caught:
        run_stage(executor, Square(tmp_path), units(1), ledger, Workers(gpus=1))
    assert "needs 1 CPU, 1 GPU" in str(caught.value)
    assert "the cluster has 4 CPU, 0 GPU" in str(caught.value)


@pytest.mark.parametrize("error", [OutOfMemoryError("the node is running low"), RuntimeError("no hint for this")])
def test_a_loss_by_memory_has_advice(error: Exception) -> None:
    assert ("Reserve more memory for each worker" in loss_reason(error)) is isinstance(error, OutOfMemoryError)


def test_a_smaller_cluster_runs_fewer_workers(executor: RayExecutor, ledger: Ledger, tmp_path: Path) -> None:
    assert run_stage(executor, Square(tmp_path), units(8), ledger, Workers(count=5, cpus=2)).done == 8
    assert marks(tmp_path / "setups") <= 2


def test_open_requests_wait_only_while_no_worker_runs(
    executor: RayExecutor, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later_s = 0.0

    def advance_an_hour(event: Event) -> None:
        nonlocal later_s
        later_s = 3600.0 if isinstance(event, UnitDone) else later_s

    monkeypatch.setattr(
        "cluster.on_ray.worker_pool.time", SimpleNamespace(monotonic=lambda: time.monotonic() + later_s)
    )
    work = [*units(2), Unit("out/killed", {"index": 2, "kind": "is killed once"})]
    workers = Workers(count=2, cpus=4, overlap=1)
    report = run_stage(executor, Square(tmp_path), work, ledger, workers, advance_an_hour)
    assert (report.done, report.failed, report.workers_lost) == (3, 0, 1)


def test_units_are_pulled_only_as_workers_have_room(executor: RayExecutor, ledger: Ledger, tmp_path: Path) -> None:
    pulled = 0

    def endless() -> Iterator[Unit]:
        nonlocal pulled
        while True:
            yield Unit(f"out/{pulled}", {"index": pulled, "kind": "plain"})
            pulled += 1

    done = 0
    events = executor.run(Square(tmp_path), endless(), ledger, Workers(count=2, overlap=2))
    for event in events:
        done += isinstance(event, UnitDone)
        assert pulled <= done + 2 * 2 + 4
        if done == 20:
            break
    events.close()
    assert len(ledger.done("out")) <= 20 + 2 * 2 + 4


def test_a_broken_worker_is_replaced_and_its_units_run_elsewhere(
    executor: RayExecutor, ledger: Ledger, tmp_path: Path
) -> None:
    work, seen = units(4), list[Event]()
    work[1] = Unit(work[1].path, {"index": 1, "kind": "breaks a worker once"}, weight=10)
    report = run_stage(executor, Square(tmp_path), work, ledger, Workers(), seen.append)
    assert (report.done, report.failed) == (4, 0)
    assert marks(tmp_path / "setups") == 2
    (loss,) = [event for event in seen if isinstance(event, WorkerLost)]
    assert "the GPU is lost" in loss.reason


def test_only_the_unit_that_breaks_its_worker_is_given_up(
    executor: RayExecutor, ledger: Ledger, tmp_path: Path
) -> None:
    work = units(3)
    work[1] = Unit("out/poison", {"index": 1, "kind": "breaks its worker"})
    report = run_stage(executor, Square(tmp_path), work, ledger, Workers(max_attempts=2))
    assert (report.done, [failure.path for failure in report.failures]) == (2, ["out/poison"])
    assert "the GPU is lost" in report.failures[0].error


def test_closing_the_events_kills_the_workers(executor: RayExecutor, ledger: Ledger, tmp_path: Path) -> None:
    pids = []
    events = executor.run(Square(tmp_path), units(50, kind="slow"), ledger, Workers())
    for event in events:
        if isinstance(event, UnitDone):
            pids.append(int(event.summary["pid"]))
            break
    events.close()
    assert eventually(lambda: not is_running(pids[0]))
    assert len(ledger.done("out")) <= 4


def test_a_worker_killed_between_runs_is_replaced(executor: RayExecutor, ledger: Ledger, tmp_path: Path) -> None:
    workers = Workers(max_attempts=1)
    report = run_stage(executor, Square(tmp_path), units(1, folder="a"), ledger, workers)
    os.kill(int(report.summary["pid"]), signal.SIGKILL)
    seen: list[Event] = []
    report = run_stage(executor, Square(tmp_path), units(2, folder="b"), ledger, workers, seen.append)
    assert (report.done, report.failed, report.workers_lost) == (2, 0, 1)
    assert [event.units for event in seen if isinstance(event, WorkerLost)] == [()]
    assert sum(isinstance(event, WorkersReady) for event in seen) == 1


def test_a_store_visible_only_to_the_worker_is_an_error(executor: RayExecutor, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="all machines share"):
        run_stage(executor, Square(tmp_path), units(3), Ledger(Store("memory://alone")), Workers())


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def eventually(condition: Callable[[], bool], *, within_s: float = 120.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False
