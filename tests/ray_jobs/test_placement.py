"""What the job file says about workers is what they are asked for with."""

import pytest

from cluster import Helpers, LocalExecutor, RayExecutor, Workers
from ray_jobs.errors import JobError
from ray_jobs.placement import choose
from ray_jobs.sections import ClusterSection
from ray_jobs.sharing import CONTEXT_BYTES, assigned_gpus, memory_fraction


def test_memory_and_labels_reach_the_workers_of_a_cluster():
    section = ClusterSection(
        address="auto", memory_per_worker_gib=1.5, labels={"pool": "gpu", "ray.io/accelerator-type": "H100"}
    )
    executor, workers = choose(section, threads=1, images=None)
    assert isinstance(executor, RayExecutor)
    assert workers.memory_bytes == 3 << 29
    assert workers.labels == (("pool", "gpu"), ("ray.io/accelerator-type", "H100"))


def test_labels_in_any_order_ask_for_the_same_workers():
    pairs = {"a": "1", "b": "2"}
    orders = [pairs, dict(reversed(pairs.items()))]
    asked = [choose(ClusterSection(address="auto", labels=order), threads=1, images=None)[1] for order in orders]
    assert asked[0] == asked[1]


def test_this_machine_is_not_asked_for_labels():
    executor, workers = choose(ClusterSection(labels={"pool": "gpu"}), threads=1, images=10)
    assert isinstance(executor, LocalExecutor)
    assert workers.labels == Workers().labels


def test_those_who_decode_are_as_large_as_workers_and_have_labels_of_their_own():
    section = ClusterSection(address="auto", cpus_per_worker=3, decode_workers=5, decode_labels={"pool": "cpu"})
    assert choose(section, threads=1, images=None)[1].helpers == Helpers(count=5, cpus=3, labels=(("pool", "cpu"),))
    assert choose(ClusterSection(decode_workers=5), threads=1, images=10)[1].helpers is None


@pytest.mark.parametrize(("share", "expected"), [(1.0, 0.96), (0.5, 0.46), (0.25, 0.21)])
def test_a_share_of_a_gpu_leaves_room_for_the_context(share, expected):
    assert memory_fraction(share, 25 * CONTEXT_BYTES) == pytest.approx(expected)


def test_the_shares_of_all_workers_fit_into_one_gpu():
    total = 24 << 30
    for workers in range(1, 20):
        taken = workers * (memory_fraction(1 / workers, total) * total + CONTEXT_BYTES)
        assert taken <= total * (1 + 1e-9)


def test_a_share_without_room_for_the_context_is_an_error_that_says_what_to_set():
    with pytest.raises(JobError, match=r"gpus_per_worker is 0\.01 of a GPU of 8\.0 GiB"):
        memory_fraction(0.01, 8 << 30)


def test_outside_of_ray_there_is_no_share_to_keep_to():
    assert assigned_gpus() == 0.0
