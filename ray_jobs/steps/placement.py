"""The executor of a job, and the number and shape of its workers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TypeAlias

from cluster import Executor, Helpers, LocalExecutor, RayExecutor, Workers
from cluster.on_ray.capacity import Node, cluster_nodes
from ray_jobs.console.interrupts import time_to_end
from ray_jobs.console.progress import Reporter
from ray_jobs.job_file.sections import ClusterSection
from ray_jobs.steps.local_gpus import local_gpus

ListNodes: TypeAlias = Callable[[str], Sequence[Node]]
"""Lists the nodes of the cluster at an address. Raises ClusterError if none responds there."""

WORTH_A_RAY = 1500
"""Images to embed from which starting Ray (some ten seconds of CPU) pays on a machine for several workers."""


LOOKING = "looking for GPUs or the nodes of the cluster"
"""What `choose` does that may take long, for messages."""
OVERLAP, GPU_OVERLAP = 2, 8
"""Units in a worker at a time. A GPU embeds a shard in a tenth of a second, less than reading its first image and
committing its part may take; the units that do either must not be all there are."""
STOP_RAY_S = 10.0
"""Seconds that it takes to stop the workers and a Ray of our own."""


@contextmanager
def entered(executor: Executor, reporter: Reporter) -> Iterator[None]:
    """Enter an executor: show a message while Ray starts, and allow time to stop it after Ctrl-C.

    Args:
        executor: not entered yet.
        reporter: shows the message.

    Raises:
        ClusterError: Ray cannot be started, or no cluster responds at the address.
    """
    if not isinstance(executor, RayExecutor):
        with executor:
            yield
        return
    with time_to_end(STOP_RAY_S), ExitStack() as stack:
        with reporter.waiting(f"starting or reaching {executor.where}"):
            stack.enter_context(executor)
        yield


def choose(
    section: ClusterSection,
    *,
    threads: int,
    images: int | None,
    units: int | None = None,
    device: str = "auto",
    nodes: ListNodes = cluster_nodes,
) -> tuple[Executor, Workers]:
    """Choose the executor and the workers of a job.

    Args:
        section: of the job file.
        threads: CPU threads of a worker's forward.
        images: images still to be embedded; None if unknown, which counts as many.
        units: units of the largest stage that are still to be done; None if unknown, which counts as many.
        device: of the model; workers of one on "cpu" take no GPU unless the section says how much of one.
        nodes: lists the nodes of the cluster at an address; called only if the section does not say everything.

    Returns:
        an executor that was not entered yet, and the workers of its embedding stages.

    Raises:
        ClusterError: no cluster responds at the address.
    """
    if device == "cpu" and section.gpus_per_worker is None:
        section = replace(section, gpus_per_worker=0)
    if section.address is not None:
        return RayExecutor(section.address), _on_cluster(section, threads, nodes)
    gpus = local_gpus().count
    machine = Node(cpus=float(os.cpu_count() or 1), gpus=float(gpus))
    share = (1.0 if section.gpus_per_worker is None else section.gpus_per_worker) if gpus else 0.0
    fitting = machine.capacity_for(cpus=0, gpus=share) if share else int(machine.cpus) // threads
    count = section.clip_workers or max(1, fitting)
    cpus = _cpus(section, threads, share, [machine])
    few = units == 1 or (images is not None and images < WORTH_A_RAY)
    alone = count == 1 or (few and section.clip_workers is None)
    if section.mode == "process" or (section.mode == "auto" and alone):
        return LocalExecutor(), _workers(section, cpus, count=1, gpus=share)
    workers = _workers(section, cpus, count=count, gpus=share)
    return RayExecutor(num_cpus=max(os.cpu_count() or 1, math.ceil(count * workers.cpus))), workers


def _on_cluster(section: ClusterSection, threads: int, look: ListNodes) -> Workers:
    """Return as many workers as fit on the allowed nodes, with a GPU each if these have any; at least one."""
    assert section.address is not None
    count, share = section.clip_workers, section.gpus_per_worker
    depends = section.cpus_per_worker is None and share != 0  # The CPUs of a worker, on those of its node.
    asks = count is None or share is None or section.decode_workers == "auto" or depends
    nodes = look(section.address) if asks else ()
    # Nodes that are started later are taken to be like those that are there.
    allowed = [node for node in nodes if node.matches_labels(section.labels)] or nodes
    if share is None:
        share = float(any(node.gpus for node in allowed))
    shape = _workers(section, _cpus(section, threads, share, allowed), count=1, gpus=share)
    memory_bytes = shape.memory_bytes
    fitting = sum(node.capacity_for(cpus=shape.cpus, gpus=shape.gpus, memory_bytes=memory_bytes) for node in allowed)
    return replace(shape, count=count or max(1, fitting), helpers=_helpers(section, threads, nodes))


def _cpus(section: ClusterSection, threads: int, share: float, nodes: Sequence[Node]) -> float:
    """Return the CPUs of a worker: with a GPU, its part of the node, so that decoding keeps up with it."""
    if section.cpus_per_worker is not None:
        return section.cpus_per_worker
    beside = [cpus_beside_gpus(node.cpus, node.gpus, share) for node in nodes if node.gpus]
    return max(float(threads), min(beside, default=0.0))


def cpus_beside_gpus(cpus: float, gpus: float, share: float) -> float:
    """Return the CPUs of a worker with a share of the GPUs of a machine.

    One CPU of the machine is left to all others, so that a worker can be placed beside a small task of another job.

    Args:
        cpus: CPUs of the machine.
        gpus: its GPUs, > 0.
        share: GPUs of a worker.
    """
    return max(0.0, cpus - 1) * min(1.0, share / gpus)


def _workers(section: ClusterSection, cpus: float, *, count: int, gpus: float) -> Workers:
    """Return workers with so many CPUs and GPUs each."""
    memory = section.memory_per_worker_gib
    elsewhere = section.address is not None
    return Workers(
        count=count,
        cpus=cpus,
        gpus=gpus,
        memory_bytes=None if memory is None else round(memory * 2**30),
        labels=_pairs(section.labels) if elsewhere else (),
        overlap=GPU_OVERLAP if gpus else OVERLAP,
    )


def _helpers(section: ClusterSection, threads: int, nodes: Sequence[Node]) -> Helpers | None:
    """Return the helpers that decode; with "auto", as many as fit on nodes without GPUs if other nodes have some."""
    count = section.decode_workers
    cpus = max(1.0, float(threads) if section.cpus_per_worker is None else section.cpus_per_worker)
    if count == "auto":
        idle = [node for node in nodes if not node.gpus and node.matches_labels(section.decode_labels)]
        count = sum(node.capacity_for(cpus=cpus, gpus=0) for node in idle) if any(node.gpus for node in nodes) else 0
    return Helpers(count=count, cpus=cpus, labels=_pairs(section.decode_labels)) if count else None


def _pairs(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))
