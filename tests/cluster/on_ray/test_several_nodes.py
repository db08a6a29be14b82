"""Nodes with labels, and nodes that join, drain, or are killed while units run on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import (
    Event,
    Helpers,
    Ledger,
    LocalExecutor,
    RayExecutor,
    StageReport,
    Store,
    Unit,
    UnitDone,
    Workers,
    WorkerStartError,
    run_stage,
)
from ray_jobs.steps.gpu_share import assigned_gpus
from tests.cluster.several_nodes import Nodes, SeveralNodes, several_nodes
from tests.cluster.steps import Located, SplitSquare, located_units, marks, units

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[SeveralNodes]:
    with several_nodes() as cluster:
        yield cluster


def ledger_in(folder: Path) -> Ledger:
    return Ledger(Store(str(folder / "store")))


def used_nodes(folder: Path) -> set[str]:
    """Return the names of the nodes that units ran on."""
    return {path.name for path in (folder / "nodes").glob("*")}


def after(count: int, act: Callable[[], None]) -> Callable[[Event], None]:
    """Return an event handler that calls `act` when that many units are done."""
    done = 0

    def on_event(event: Event) -> None:
        nonlocal done
        done += isinstance(event, UnitDone)
        if done == count and isinstance(event, UnitDone):
            act()

    return on_event


def until(is_over: Callable[[], bool], *, more: int = 0) -> Iterator[Unit]:
    """Yield units until a condition holds, and that many more."""
    for unit in located_units(500):
        if is_over():
            if more == 0:
                return
            more -= 1
        yield unit
    raise AssertionError("the condition does not hold after 500 units")


def run_on_labelled_nodes(nodes: Nodes, folder: Path) -> str:
    nodes.ensure("a", "b")
    with RayExecutor("auto") as executor:
        workers = Workers(count=2, labels=(("name", "b"),))
        run_stage(executor, Located(folder), located_units(4), ledger_in(folder), workers)
    nowhere, more = Workers(labels=(("name", "nowhere"),)), located_units(1, folder="other")
    with RayExecutor("auto", capacity_timeout_s=1) as executor, pytest.raises(WorkerStartError) as caught:
        run_stage(executor, Located(folder), more, ledger_in(folder), nowhere)
    return str(caught.value)


def test_workers_run_on_nodes_with_the_requested_labels(cluster: SeveralNodes, tmp_path: Path) -> None:
    message = cluster.call(run_on_labelled_nodes, tmp_path)
    assert used_nodes(tmp_path) == {"b"}
    assert "needs 1 CPU, 0 GPU, 0.0 GiB memory, on nodes labelled name=nowhere" in message


def read_gpu_share(nodes: Nodes, folder: Path) -> float:
    nodes.ensure("a", "b")
    import ray

    return ray.get(ray.remote(Share).options(num_gpus=0.25, num_cpus=0).remote().read.remote())


def test_a_worker_reads_its_share_of_a_gpu(cluster: SeveralNodes, tmp_path: Path) -> None:
    assert cluster.call(read_gpu_share, tmp_path) == 0.25


class Share:
    def read(self) -> float:
        return assigned_gpus()


def run_with_helpers(nodes: Nodes, folder: Path) -> StageReport:
    nodes.ensure("a", "b")
    work = units(12, kind="kills the first helper")
    work[7] = Unit("bad/0007.bin", {"index": 7, "kind": "raises"})
    workers = Workers(labels=(("name", "a"),), helpers=Helpers(count=2, cpus=0.5, labels=(("name", "b"),)))
    with RayExecutor("auto") as executor, pytest.MonkeyPatch.context() as patch:
        patch.setattr("cluster.on_ray.helpers._TASK_TIMEOUT_S", 120.0)  # A busy machine starts them late.
        return run_stage(executor, SplitSquare(folder, work_s=0.1), work, ledger_in(folder), workers)


def test_a_killed_helper_costs_one_attempt(cluster: SeveralNodes, tmp_path: Path) -> None:
    report = cluster.call(run_with_helpers, tmp_path)
    (failure,) = report.failures
    assert (report.done, report.workers_lost) == (11, 0)
    assert failure.error.startswith("ValueError: no square of 7")
    assert report.summary["from elsewhere"] > 0
    assert marks(tmp_path / "prepared/b") > report.summary["from elsewhere"]
    assert used_nodes(tmp_path) == {"a"}
    plain = LocalExecutor()
    expected = Ledger(Store("memory://halves"))
    run_stage(plain, SplitSquare(tmp_path / "local"), units(12), expected, Workers())
    spread = ledger_in(tmp_path)
    assert len(spread.done("out")) == 11
    assert all(spread.store.get(path) == expected.store.get(path) for path in spread.done("out"))


def run_while_a_node_joins(nodes: Nodes, folder: Path) -> StageReport:
    nodes.ensure("a", "b")
    work = until(lambda: "c" in used_nodes(folder))
    with RayExecutor("auto") as executor:
        join = after(2, lambda: nodes.ensure("a", "b", "c"))
        return run_stage(executor, Located(folder), work, ledger_in(folder), Workers(count=4), join)


def test_workers_start_on_a_node_that_joins(cluster: SeveralNodes, tmp_path: Path) -> None:
    report = cluster.call(run_while_a_node_joins, tmp_path)
    assert (report.failed, report.workers_lost) == (0, 0)
    assert used_nodes(tmp_path) == {"a", "b", "c"}
    assert marks(tmp_path / "setups") == 3


def run_while_a_node_drains(nodes: Nodes, folder: Path) -> StageReport:
    nodes.ensure("a", "b", "c")
    noticed: list[str] = []

    def give_notice() -> None:
        noticed.extend(sorted(used_nodes(folder))[:1])
        nodes.give_notice(noticed[0])

    work = until(lambda: bool(noticed) and not nodes.is_alive(noticed[0]) and len(used_nodes(folder)) == 3)
    with RayExecutor("auto") as executor:
        workers = Workers(count=2, max_attempts=1)
        return run_stage(executor, Located(folder), work, ledger_in(folder), workers, after(2, give_notice))


def test_a_draining_node_finishes_its_units(cluster: SeveralNodes, tmp_path: Path) -> None:
    report = cluster.call(run_while_a_node_drains, tmp_path)
    assert (report.failed, report.workers_lost) == (0, 0)
    assert {marks(path) for path in (tmp_path / "runs").iterdir()} == {1}


def run_while_a_node_is_killed(nodes: Nodes, folder: Path) -> StageReport:
    nodes.ensure("a", "b")

    def kill(event: Event) -> None:
        if isinstance(event, UnitDone) and "a" in nodes.known and "a" in used_nodes(folder):
            nodes.kill("a")

    work = until(lambda: "a" not in nodes.known, more=6)
    with RayExecutor("auto") as executor:
        workers = Workers(count=2, max_attempts=1, overlap=1)
        return run_stage(executor, Located(folder), work, ledger_in(folder), workers, kill)


def test_a_killed_node_costs_no_unit_and_no_byte(cluster: SeveralNodes, tmp_path: Path) -> None:
    report = cluster.call(run_while_a_node_is_killed, tmp_path)
    assert (report.done >= 7, report.failed) == (True, 0)
    assert report.workers_lost >= 1  # Two, if Ray places a second one there before it notices the death of the node.
    plain = Ledger(Store("memory://killed-node"))
    run_stage(LocalExecutor(), Located(tmp_path / "local"), located_units(report.done), plain, Workers())
    spread = ledger_in(tmp_path)
    assert {path: spread.store.get(path) for path in spread.done("out")} == {
        path: plain.store.get(path) for path in plain.done("out")
    }


def run_while_the_helpers_node_is_killed(nodes: Nodes, folder: Path) -> StageReport:
    nodes.ensure("a", "b")
    workers = Workers(labels=(("name", "a"),), helpers=Helpers(count=2, cpus=0.5, labels=(("name", "b"),)))
    with RayExecutor("auto") as executor, pytest.MonkeyPatch.context() as patch:
        patch.setattr("cluster.on_ray.helpers._TASK_TIMEOUT_S", 3.0)
        kill = after(4, lambda: nodes.kill("b"))
        return run_stage(executor, SplitSquare(folder, work_s=0.3), units(14), ledger_in(folder), workers, kill)


def test_a_worker_finishes_its_units_without_helpers(cluster: SeveralNodes, tmp_path: Path) -> None:
    report = cluster.call(run_while_the_helpers_node_is_killed, tmp_path)
    assert (report.done, report.failed, report.workers_lost) == (14, 0, 0)


def kill_the_only_node_while_workers_start(nodes: Nodes, folder: Path) -> str:
    nodes.ensure("a")

    def work() -> Iterator[Unit]:
        yield from located_units(6)
        time.sleep(0.5)  # Their processes start; none has returned its node yet.
        nodes.kill("a")

    workers = Workers(count=6, cpus=0.1, max_attempts=1)
    with RayExecutor("auto", capacity_timeout_s=5) as executor, pytest.raises(WorkerStartError) as caught:
        run_stage(executor, Located(folder), work(), ledger_in(folder), workers)
    return str(caught.value)


def test_workers_lost_with_an_unknown_node_are_no_failed_starts(cluster: SeveralNodes, tmp_path: Path) -> None:
    message = cluster.call(kill_the_only_node_while_workers_start, tmp_path)
    assert "no room for a worker in 5 s" in message
