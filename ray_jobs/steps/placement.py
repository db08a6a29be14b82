"""The executor of a job, and the number and shape of its workers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from cluster import Executor, Helpers, LocalExecutor, RayExecutor, Workers
from cluster.on_ray.capacity import Node, cluster_nodes
from ray_jobs.console.interrupts import time_to_end
from ray_jobs.console.progress import Reporter
from ray_jobs.job_file.sections import ClusterSection
from ray_jobs.steps.local_gpus import local_gpus

WORTH_A_RAY = 1500
"""Images to embed from which starting Ray (some ten seconds of CPU) pays on a machine for several workers."""


LOOKING = "looking for GPUs or the nodes of the cluster"
"""What `choose` does that may take long, for messages."""
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
    nodes: Callable[[str], Sequence[Node]] = cluster_nodes,
) -> tuple[Executor, Workers]:
    """Choose the executor and the workers of a job.

    Args:
        section: of the job file.
        threads: CPU threads of a worker's forward.
        images: images still to be embedded; None if unknown, which counts as many.
        nodes: lists the nodes of the cluster at an address; called only if the section does not say everything.

    Returns:
        an executor that was not entered yet, and the workers of its embedding stages.

    Raises:
        ClusterError: no cluster responds at the address.
    """
    if section.address is not None:
        return RayExecutor(section.address), _on_cluster(section, threads, nodes)
    gpus = local_gpus().count
    fitting = gpus or max(1, (os.cpu_count() or 1) // threads)
    count = section.clip_workers or fitting
    share = (1.0 if section.gpus_per_worker is None else section.gpus_per_worker) if gpus else 0.0
    alone = count == 1 or (images is not None and images < WORTH_A_RAY and section.clip_workers is None)
    if section.mode == "process" or (section.mode == "auto" and alone):
        return LocalExecutor(), _workers(section, threads, count=1, gpus=share)
    workers = _workers(section, threads, count=count, gpus=share)
    return RayExecutor(num_cpus=max(os.cpu_count() or 1, math.ceil(count * workers.cpus))), workers


def _on_cluster(section: ClusterSection, threads: int, look: Callable[[str], Sequence[Node]]) -> Workers:
    """Return as many workers as fit on the allowed nodes, with a GPU each if these have any; at least one."""
    assert section.address is not None
    count, share = section.clip_workers, section.gpus_per_worker
    nodes = look(section.address) if count is None or share is None or section.decode_workers == "auto" else ()
    # Nodes that are started later are taken to be like those that are there.
    allowed = [node for node in nodes if node.matches_labels(section.labels)] or nodes
    if share is None:
        share = float(any(node.gpus for node in allowed))
    shape = _workers(section, threads, count=1, gpus=share)
    memory_bytes = shape.memory_bytes
    fitting = sum(node.capacity_for(cpus=shape.cpus, gpus=shape.gpus, memory_bytes=memory_bytes) for node in allowed)
    return replace(shape, count=count or max(1, fitting), helpers=_helpers(section, max(1.0, shape.cpus), nodes))


def _workers(section: ClusterSection, threads: int, *, count: int, gpus: float) -> Workers:
    """Return workers with so many GPUs each."""
    memory = section.memory_per_worker_gib
    cpus = section.cpus_per_worker if section.cpus_per_worker is not None else float(threads)
    elsewhere = section.address is not None
    return Workers(
        count=count,
        cpus=cpus,
        gpus=gpus,
        memory_bytes=None if memory is None else round(memory * 2**30),
        labels=_pairs(section.labels) if elsewhere else (),
    )


def _helpers(section: ClusterSection, cpus: float, nodes: Sequence[Node]) -> Helpers | None:
    """Return the helpers that decode; with "auto", as many as fit on nodes without GPUs if other nodes have some."""
    count = section.decode_workers
    if count == "auto":
        idle = [node for node in nodes if not node.gpus and node.matches_labels(section.decode_labels)]
        count = sum(node.capacity_for(cpus=cpus, gpus=0) for node in idle) if any(node.gpus for node in nodes) else 0
    return Helpers(count=count, cpus=cpus, labels=_pairs(section.decode_labels)) if count else None


def _pairs(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))
