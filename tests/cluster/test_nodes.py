"""Nodes that join, have labels, are told to leave, or are lost while work runs on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import (
    Event,
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
from tests.cluster.several_nodes import Nodes, SeveralNodes, several_nodes
from tests.cluster.steps import Located, located_units, marks

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[SeveralNodes]:
    with several_nodes() as cluster:
        yield cluster


def ledger_in(folder: Path) -> Ledger:
    return Ledger(Store(str(folder / "store")))


def used(folder: Path) -> set[str]:
    """Names of the nodes that units ran on."""
    return {path.name for path in (folder / "nodes").glob("*")}


def after(count: int, act: Callable[[], None]) -> Callable[[Event], None]:
    """Act when that many units are done."""
    done = 0

    def on_event(event: Event) -> None:
        nonlocal done
        done += isinstance(event, UnitDone)
        if done == count and isinstance(event, UnitDone):
            act()

    return on_event


def until(is_over: Callable[[], bool]) -> Iterator[Unit]:
    """Units for as long as something has not come about."""
    for unit in located_units(500):
        if is_over():
            return
        yield unit
    raise AssertionError("500 units later it had not come about")


def on_a_labelled_node(nodes: Nodes, folder: Path) -> str:
    nodes.ensure("a", "b")
    with RayExecutor("auto", capacity_timeout_s=3) as executor:
        workers = Workers(count=2, labels=(("name", "b"),))
        run_stage(executor, Located(folder), located_units(4), ledger_in(folder), workers)
        nowhere, more = Workers(labels=(("name", "nowhere"),)), located_units(1, folder="other")
        with pytest.raises(WorkerStartError) as caught:
            run_stage(executor, Located(folder), more, ledger_in(folder), nowhere)
    return str(caught.value)


def test_workers_run_on_nodes_with_the_labels_that_were_asked_for(cluster: SeveralNodes, tmp_path: Path) -> None:
    message = cluster.call(on_a_labelled_node, tmp_path)
    assert used(tmp_path) == {"b"}
    assert "asked for with 1 CPU, 0 GPU, 0.0 GiB memory, on nodes labelled name=nowhere" in message


def while_a_node_joins(nodes: Nodes, folder: Path) -> StageReport:
    nodes.ensure("a", "b")
    work = until(lambda: "c" in used(folder))
    with RayExecutor("auto") as executor:
        join = after(2, lambda: nodes.ensure("a", "b", "c"))
        return run_stage(executor, Located(folder), work, ledger_in(folder), Workers(count=4), join)


def test_work_begins_on_what_there_is_and_spreads_to_a_node_that_joins(cluster: SeveralNodes, tmp_path: Path) -> None:
    report = cluster.call(while_a_node_joins, tmp_path)
    assert (report.failed, report.workers_lost) == (0, 0)
    assert used(tmp_path) == {"a", "b", "c"}
    assert marks(tmp_path / "setups") == 3


def while_a_node_is_told_to_leave(nodes: Nodes, folder: Path) -> StageReport:
    nodes.ensure("a", "b", "c")
    told: list[str] = []

    def tell() -> None:
        told.extend(sorted(used(folder))[:1])
        nodes.give_notice(told[0])

    work = until(lambda: bool(told) and not nodes.is_alive(told[0]) and len(used(folder)) == 3)
    with RayExecutor("auto") as executor:
        workers = Workers(count=2, max_attempts=1)
        return run_stage(executor, Located(folder), work, ledger_in(folder), workers, after(2, tell))


def test_a_node_that_is_told_to_leave_goes_idle_and_no_unit_is_lost(cluster: SeveralNodes, tmp_path: Path) -> None:
    report = cluster.call(while_a_node_is_told_to_leave, tmp_path)
    assert (report.failed, report.workers_lost) == (0, 0)
    assert {marks(path) for path in (tmp_path / "runs").iterdir()} == {1}


def while_a_node_is_killed(nodes: Nodes, folder: Path) -> StageReport:
    nodes.ensure("a", "b")
    with RayExecutor("auto") as executor:
        workers = Workers(count=2, max_attempts=1, overlap=1)
        kill = after(3, lambda: nodes.kill("a"))
        return run_stage(executor, Located(folder), located_units(12), ledger_in(folder), workers, kill)


def test_a_node_that_is_killed_gives_up_no_unit_and_changes_no_byte(cluster: SeveralNodes, tmp_path: Path) -> None:
    report = cluster.call(while_a_node_is_killed, tmp_path)
    assert (report.done, report.failed, report.workers_lost) == (12, 0, 1)
    plain = Ledger(Store("memory://killed-node"))
    run_stage(LocalExecutor(), Located(tmp_path / "local"), located_units(12), plain, Workers())
    spread = ledger_in(tmp_path)
    assert {path: spread.store.get(path) for path in spread.done("out")} == {
        path: plain.store.get(path) for path in plain.done("out")
    }
