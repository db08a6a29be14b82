"""What a pool bears, without a Ray."""

from __future__ import annotations

from itertools import count

import pytest

from cluster import UnitLostError, Workers, WorkerStartError
from cluster.on_ray.worker_pool import Pool
from tests.cluster.steps import Strange


@pytest.fixture
def pool() -> Pool:
    shape = Workers(max_attempts=2)
    return Pool(Strange(), shape, capacity_timeout_s=1.0, can_grow=False, make_room=lambda: None)


def losses_borne(pool: Pool) -> int:
    for losses in count():
        try:
            pool.count_loss("bus error")
        except UnitLostError:
            return losses
    raise AssertionError("unreachable")


@pytest.mark.parametrize("answers", [0, 1, 50])
def test_losses_in_a_row_are_borne_for_as_long_as_more_has_ended_well(pool: Pool, answers: int) -> None:
    pool._was_ready = True
    for _ in range(answers):
        pool.answered()
    assert losses_borne(pool) == 4 * 2 + answers
    with pytest.raises(
        UnitLostError, match=rf"{10 + answers} workers in a row died .*answer\. The last one: overheated"
    ):
        pool.count_loss("overheated")
    pool.answered()
    assert losses_borne(pool) == 4 * 2 + answers + 1


def test_a_cluster_without_room_is_a_wrong_set_up_unless_it_had_some(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "waited_s", lambda: 2.0)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0})
    messages = r"no room for a worker in 1 s\. A worker was asked for with 1 CPU.* the cluster has 4 CPU"
    with pytest.raises(WorkerStartError, match=messages):
        pool.check_room()
    pool.answered()
    with pytest.raises(UnitLostError, match=messages):
        pool.check_room()


def test_workers_that_die_before_one_was_ready_are_a_wrong_set_up(pool: Pool) -> None:
    pool.count_loss("bus error")
    with pytest.raises(WorkerStartError, match=r"2 workers in a row died while starting\. The last one: bus error"):
        pool.count_loss("bus error")
