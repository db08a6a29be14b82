"""What the job file says about workers is asked for; on a cluster, what it leaves open follows from the nodes."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from cluster import Helpers, LocalExecutor, RayExecutor, Workers
from cluster.on_ray.capacity import Node
from fewshot.backbones import ClipSpec
from ray_jobs.errors import JobError
from ray_jobs.job_file.sections import ClusterSection
from ray_jobs.steps import placement
from ray_jobs.steps.embed import EmbedStep
from ray_jobs.steps.gpu_share import CONTEXT_BYTES, assigned_gpus, device_memory, keep_to_share, memory_fraction
from ray_jobs.steps.local_gpus import LocalGpus
from ray_jobs.steps.placement import WORTH_A_RAY, choose, cpus_beside_gpus

HEAD, GPUS, CPUS = Node(cpus=2, gpus=0), Node(cpus=16, gpus=4), Node(cpus=8, gpus=0)


def workers(nodes, *, threads=1, **section):
    executor, chosen = choose(
        ClusterSection(address="auto", **section), threads=threads, images=None, nodes=lambda _: nodes
    )
    assert isinstance(executor, RayExecutor)
    return chosen.count, chosen.cpus, chosen.gpus


@pytest.mark.parametrize(
    ("nodes", "section", "expected"),
    [
        ((HEAD, GPUS, GPUS), {}, (8, 3.75, 1.0)),
        ((HEAD, GPUS), {"gpus_per_worker": 0.5}, (8, 1.875, 0.5)),
        ((HEAD, GPUS), {"gpus_per_worker": 2}, (2, 7.5, 2.0)),
        ((HEAD, GPUS), {"cpus_per_worker": 6.0}, (2, 6.0, 1.0)),
        ((HEAD, GPUS), {"clip_workers": 3}, (3, 3.75, 1.0)),
        ((HEAD, GPUS), {"clip_workers": 3, "gpus_per_worker": 1}, (3, 3.75, 1.0)),
        ((HEAD, GPUS, Node(cpus=3, gpus=1)), {}, (5, 2.0, 1.0)),
        ((Node(cpus=4, gpus=4),), {"threads": 2}, (2, 2.0, 1.0)),
        ((HEAD, GPUS), {"gpus_per_worker": 0}, (18, 1.0, 0.0)),
        ((HEAD, CPUS), {"threads": 3}, (2, 3.0, 0.0)),
        ((HEAD,), {"gpus_per_worker": 1}, (1, 1.0, 1.0)),
        ((), {}, (1, 1.0, 0.0)),
    ],
)
def test_workers_fit_on_the_nodes_and_take_gpus_where_there_are_any(nodes, section, expected):
    assert workers(nodes, **section) == expected


LABELLED = (
    Node(cpus=16, gpus=8, memory_bytes=64 << 30, labels={"pool": "fast"}),
    Node(cpus=16, gpus=4, memory_bytes=64 << 30, labels={"pool": "slow"}),
    Node(cpus=8, gpus=0, memory_bytes=32 << 30, labels={"pool": "cpu"}),
    Node(cpus=4, gpus=0, memory_bytes=32 << 30, labels={}),
)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"labels": {"pool": "fast"}}, (8, 1.875, 1.0)),
        ({"labels": {"pool": "cpu"}}, (8, 1.0, 0.0)),
        ({"labels": {"pool": "in(slow, cpu)"}}, (4, 3.75, 1.0)),
        ({"labels": {"pool": "!fast"}, "gpus_per_worker": 0}, (28, 1.0, 0.0)),
        ({"labels": {"pool": "!in(fast,slow)"}}, (12, 1.0, 0.0)),
        ({"labels": {"pool": "comes later"}}, (12, 1.875, 1.0)),
        ({"labels": {"pool": "fast"}, "memory_per_worker_gib": 20}, (3, 1.875, 1.0)),
    ],
)
def test_workers_fit_on_allowed_nodes_with_enough_memory(section, expected):
    assert workers(LABELLED, **section) == expected


@pytest.mark.parametrize(("labels", "count"), [({}, 12), ({"pool": "cpu"}, 8), ({"pool": "slow"}, None)])
def test_only_nodes_that_may_decode_are_counted(labels, count):
    section = ClusterSection(address="auto", decode_workers="auto", decode_labels=labels)
    _, chosen = choose(section, threads=1, images=None, nodes=lambda _: LABELLED)
    assert chosen.helpers == (None if count is None else Helpers(count=count, labels=tuple(labels.items())))


@pytest.mark.parametrize(("section", "gpus"), [({}, 0.0), ({"gpus_per_worker": 0.5}, 0.5)])
def test_workers_of_a_model_on_the_cpu_take_no_gpu(section, gpus):
    section = ClusterSection(address="auto", clip_workers=2, **section)
    _, chosen = choose(section, threads=1, images=None, device="cpu", nodes=lambda _: (GPUS,))
    assert chosen.gpus == gpus


def test_the_cluster_is_not_queried_without_need():
    assert workers(None, clip_workers=5, gpus_per_worker=0.25, cpus_per_worker=2) == (5, 2, 0.25)
    assert workers(None, clip_workers=5, gpus_per_worker=0) == (5, 1.0, 0)


@pytest.mark.parametrize(("nodes", "threads", "overlap"), [((HEAD, GPUS), 4, 8), ((HEAD, CPUS), 2, 2)])
def test_workers_with_gpus_decode_with_their_part_of_the_node(nodes, threads, overlap):
    section = ClusterSection(address="auto", decode_workers=3)
    _, chosen = choose(section, threads=1, images=None, nodes=lambda _: nodes)
    step = EmbedStep.for_workers(ClipSpec(), chosen)
    assert (step.decode_threads, step.helper_threads, chosen.overlap) == (threads, 2, overlap)
    assert chosen.helpers == Helpers(count=3, cpus=1.0)


def test_one_cpu_of_a_machine_with_gpus_stays_free():
    assert cpus_beside_gpus(16, 4, 1) * 4 == 15
    assert cpus_beside_gpus(1, 1, 1) == 0
    assert cpus_beside_gpus(16, 1, 2) == 15


def asked(section):
    """The workers of a cluster that has no nodes yet."""
    executor, chosen = choose(section, threads=1, images=None, nodes=lambda _: ())
    assert isinstance(executor, RayExecutor)
    return chosen


def test_memory_and_labels_reach_the_workers_of_a_cluster():
    section = ClusterSection(
        address="auto", memory_per_worker_gib=1.5, labels={"pool": "gpu", "ray.io/accelerator-type": "H100"}
    )
    assert asked(section).memory_bytes == 3 << 29
    assert asked(section).labels == (("pool", "gpu"), ("ray.io/accelerator-type", "H100"))


def test_the_order_of_labels_does_not_matter():
    pairs = {"a": "1", "b": "2"}
    orders = [pairs, dict(reversed(pairs.items()))]
    first, second = (asked(ClusterSection(address="auto", labels=order)) for order in orders)
    assert first == second


def test_labels_do_not_apply_on_this_machine():
    executor, workers = choose(ClusterSection(labels={"pool": "gpu"}), threads=1, images=10)
    assert isinstance(executor, LocalExecutor)
    assert workers.labels == Workers().labels


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, (2, 5.5, 1.0)),
        ({"gpus_per_worker": 0.25}, (8, 1.375, 0.25)),
        ({"gpus_per_worker": 2}, (1, 11.0, 2.0)),
        ({"gpus_per_worker": 0}, (12, 1.0, 0.0)),
        ({"gpus_per_worker": 0.5, "clip_workers": 3}, (3, 2.75, 0.5)),
    ],
)
def test_workers_share_the_gpus_of_this_machine(monkeypatch, section, expected):
    monkeypatch.setattr("ray_jobs.steps.placement.local_gpus", lambda: LocalGpus(2, (9, 0)))
    monkeypatch.setattr("os.cpu_count", lambda: 12)
    _, chosen = choose(ClusterSection(mode="ray", **section), threads=1, images=None)
    assert (chosen.count, chosen.cpus, chosen.gpus) == expected


@pytest.mark.parametrize(("units", "executor"), [(1, LocalExecutor), (2, RayExecutor), (None, RayExecutor)])
def test_one_unit_of_unknown_size_starts_no_ray(monkeypatch, units, executor):
    monkeypatch.setattr("os.cpu_count", lambda: 12)
    assert isinstance(choose(ClusterSection(), threads=1, images=None, units=units)[0], executor)


@pytest.mark.parametrize(
    ("gpus", "threads", "section", "expected"),
    [
        (0, 2, {}, (4, 2.0, 0.0, 2)),
        (0, 16, {"mode": "ray"}, (1, 16.0, 0.0, 2)),
        (0, 1, {"clip_workers": 3}, (3, 1.0, 0.0, 2)),
        (2, 1, {}, (2, 3.5, 1.0, 8)),
        (2, 1, {"gpus_per_worker": 0.5, "clip_workers": 4}, (4, 1.75, 0.5, 8)),
        (2, 1, {"mode": "process"}, (1, 3.5, 1.0, 8)),
    ],
)
def test_workers_fit_on_this_machine(monkeypatch, gpus, threads, section, expected):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(placement, "local_gpus", lambda: LocalGpus(gpus))
    _, chosen = choose(ClusterSection(**section), threads=threads, images=None)
    assert (chosen.count, chosen.cpus, chosen.gpus, chosen.overlap) == expected


def test_a_ray_on_this_machine_has_room_for_all_workers(monkeypatch):
    started = []
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(placement, "local_gpus", LocalGpus)
    monkeypatch.setattr(placement, "RayExecutor", lambda *, num_cpus: started.append(num_cpus))
    for count in (2, 3):
        choose(ClusterSection(clip_workers=count, cpus_per_worker=3.5), threads=1, images=None)
    assert started == [8, 11]


@pytest.mark.parametrize(
    ("images", "section", "is_alone"),
    [
        (WORTH_A_RAY - 1, {}, True),
        (WORTH_A_RAY, {}, False),
        (None, {}, False),
        (1, {"clip_workers": 2}, False),
        (None, {"clip_workers": 1}, True),
        (1, {"mode": "ray"}, False),
    ],
)
def test_a_ray_is_started_where_it_pays(monkeypatch, images, section, is_alone):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(placement, "local_gpus", LocalGpus)
    executor, _ = choose(ClusterSection(**section), threads=1, images=images)
    assert isinstance(executor, LocalExecutor) is is_alone


@pytest.mark.parametrize(
    ("nodes", "count"), [((HEAD, GPUS, CPUS), 2 + 8), ((GPUS, GPUS), None), ((HEAD, CPUS), None), ((), None)]
)
def test_nodes_without_gpus_decode_for_those_that_have_some(nodes, count):
    section = ClusterSection(
        address="auto", clip_workers=2, cpus_per_worker=1, gpus_per_worker=1, decode_workers="auto"
    )
    _, workers = choose(section, threads=1, images=None, nodes=lambda _: nodes)
    assert workers.helpers == (None if count is None else Helpers(count=count, cpus=1.0))


def test_helpers_have_the_size_of_workers_and_own_labels():
    section = ClusterSection(address="auto", cpus_per_worker=3, decode_workers=5, decode_labels={"pool": "cpu"})
    assert asked(section).helpers == Helpers(count=5, cpus=3, labels=(("pool", "cpu"),))
    assert choose(ClusterSection(decode_workers=5), threads=1, images=10)[1].helpers is None


@pytest.mark.parametrize(("share", "expected"), [(1.0, 0.96), (0.5, 0.46), (0.25, 0.21)])
def test_a_share_of_a_gpu_leaves_room_for_the_context(share, expected):
    assert memory_fraction(share, 25 * CONTEXT_BYTES) == pytest.approx(expected)


def test_the_shares_of_all_workers_fit_into_one_gpu():
    total = 24 << 30
    for workers in range(1, 20):
        taken = workers * (memory_fraction(1 / workers, total) * total + CONTEXT_BYTES)
        assert taken <= total * (1 + 1e-9)


def test_a_share_without_room_for_the_context_is_refused():
    with pytest.raises(JobError, match=r"gpus_per_worker is 0\.01 of a GPU of 8\.0 GiB.* to at least 0\.09"):
        memory_fraction(0.01, 8 << 30)
    with pytest.raises(JobError, match=r"to at least 0\.26"):
        memory_fraction(0.25, 4 * CONTEXT_BYTES)


def test_outside_of_ray_there_is_no_gpu_share():
    assert assigned_gpus() == 0.0


@pytest.mark.parametrize(("actor", "expected"), [("some", 0.5), (None, 0.0)])
def test_only_a_worker_on_ray_has_a_gpu_share(monkeypatch, actor, expected):
    context = SimpleNamespace(get_actor_id=lambda: actor, get_assigned_resources=lambda: {"GPU": 0.5})
    ray = SimpleNamespace(is_initialized=lambda: True, get_runtime_context=lambda: context)
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert assigned_gpus() == expected


@pytest.mark.parametrize(("share", "expected"), [(0.0, 25), (1.0, 25), (0.2, 4)])
def test_the_memory_of_a_device_is_that_of_the_workers_share(monkeypatch, share, expected):
    properties = SimpleNamespace(total_memory=25 * CONTEXT_BYTES)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: properties)
    monkeypatch.setattr("ray_jobs.steps.gpu_share.assigned_gpus", lambda: share)
    assert device_memory(torch.device("cuda")) == pytest.approx(expected * CONTEXT_BYTES, abs=1)
    assert device_memory(torch.device("cpu")) is None


@pytest.mark.parametrize(("share", "expected"), [(0.0, []), (1.0, []), (0.2, [0.16])])
def test_torch_is_limited_to_the_share_of_a_worker(monkeypatch, share, expected):
    properties, limits = SimpleNamespace(total_memory=25 * CONTEXT_BYTES), []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: properties)
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", limits.append)
    monkeypatch.setattr("ray_jobs.steps.gpu_share.assigned_gpus", lambda: share)
    keep_to_share()
    assert limits == pytest.approx(expected)
