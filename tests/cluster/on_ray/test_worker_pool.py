"""The losses and the waits that a pool tolerates, tested without Ray."""

from __future__ import annotations

from itertools import count

import pytest

from cluster import UnitLostError, Workers, WorkerStartError
from cluster.on_ray.worker_pool import WorkerPool
from tests.cluster.steps import Raising


@pytest.fixture
def pool() -> WorkerPool:
    shape = Workers(max_attempts=2)
    return WorkerPool(Raising(), shape, capacity_timeout_s=1.0, can_grow=False, make_room=lambda: None)


def tolerated_losses(pool: WorkerPool) -> int:
    for losses in count():
        try:
            pool.count_loss("bus error")
        except UnitLostError:
            return losses
    raise AssertionError("unreachable")


@pytest.mark.parametrize("results", [0, 1, 50])
def test_more_losses_in_a_row_are_tolerated_after_more_results(pool: WorkerPool, results: int) -> None:
    pool._was_ready = True
    for _ in range(results):
        pool.count_result()
    assert tolerated_losses(pool) == 4 * 2 + results
    with pytest.raises(
        UnitLostError, match=rf"{10 + results} workers in a row died .*finishing a unit\. The last one: overheated"
    ):
        pool.count_loss("overheated")
    pool.count_result()
    assert tolerated_losses(pool) == 4 * 2 + results + 1


def test_missing_capacity_is_a_start_error_only_before_results(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "unplaced_s", lambda: 2.0)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0})
    message = r"no room for a worker in 1 s\. Each worker needs 1 CPU.* the cluster has 4 CPU"
    with pytest.raises(WorkerStartError, match=message):
        pool.check_capacity()
    pool.count_result()
    with pytest.raises(UnitLostError, match=message):
        pool.check_capacity()


def test_workers_that_die_before_any_is_ready_are_a_start_error(pool: WorkerPool) -> None:
    pool.count_loss("bus error")
    with pytest.raises(WorkerStartError, match=r"2 workers in a row died while starting\. The last one: bus error"):
        pool.count_loss("bus error")
