"""What a job settles about its models once, where it begins, and names in its results: their precision and revision.

What `precision = "auto"` stands for follows from the workers. The driver may have other hardware, so every worker
computes in the precision that the job decided for, whatever it has. What a branch on the hub points to changes, so
every worker loads the commit that the job found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache

from cluster import ClusterError
from cluster.on_ray.capacity import cluster_nodes
from fewshot.errors import BackboneError
from fewshot.methods.table import needs_of
from ray_jobs.errors import JobError
from ray_jobs.job_file.sections import ClusterSection, Job
from ray_jobs.steps.local_gpus import local_gpus
from ray_jobs.steps.placement import ListNodes

TYPE_LABEL = "ray.io/accelerator-type"
OLDER_GPUS = {"K80": (3, 7), "P4": (6, 1), "P100": (6, 0), "V100": (7, 0), "T4": (7, 5)}
"""Compute capability of the GPUs without bfloat16 that Ray has a name for."""
AMPERE = (8, 0)
"""Compute capability that every other GPU is taken to have."""


def settle_precision(job: Job, *, nodes: ListNodes = cluster_nodes, may_guess: bool = False) -> Job:
    """Return the job with a precision in place of each "auto".

    Args:
        job: the job file.
        nodes: lists the nodes of the cluster at an address; called only if the job does not say whether its workers
            have GPUs.
        may_guess: take a cluster that does not respond for one without GPUs.

    Raises:
        JobError: the cluster does not respond.
    """
    asked_once, settled = cache(nodes), {}
    for name in _sections_with_models(job):
        section = getattr(job, name)
        if section.precision == "auto":
            capability = _capability_for(name, section.device, job.cluster, asked_once, may_guess)
            settled[name] = section.settled(capability)
    return replace(job, **settled)


def pin_revision(job: Job) -> Job:
    """Return the job with a commit in place of a branch or tag of a CLIP on the hub.

    Raises:
        JobError: neither the hub nor its cache on this machine knows the commit.
    """
    try:
        return replace(job, clip=job.clip.pinned())
    except BackboneError as error:
        raise JobError([f"[clip] {error}"]) from error


def _sections_with_models(job: Job) -> Iterator[str]:
    """Yield the names of the sections whose models the job loads."""
    yield "clip"
    if job.escalate is not None:
        yield "escalate"
    methods = [(job.classifier.method, job.classifier.hyperparameters)]
    if job.evaluate is not None:
        methods += [(name, {}) for name in job.evaluate.methods]
    if any("diffusion" in needs_of(name, hyperparameters) for name, hyperparameters in methods):
        yield "diffusion"


def _capability_for(
    section: str, device: str, cluster: ClusterSection, nodes: ListNodes, may_guess: bool
) -> tuple[int, int] | None:
    try:
        return worker_capability(device, cluster, nodes)
    except ClusterError as error:
        if may_guess:
            return None
        advice = f'Set {section}.precision ("bf16" for GPUs, "fp32" for CPUs), or cluster.gpus_per_worker'
        reason = str(error).removesuffix(".")
        raise JobError([f"[{section}] precision depends on the GPUs of the cluster: {reason}. {advice}."]) from error


def worker_capability(device: str, cluster: ClusterSection, nodes: ListNodes) -> tuple[int, int] | None:
    """Return the compute capability of the workers' least capable GPU; None for workers without.

    Args:
        device: "cpu" for models that run on CPUs only.
        cluster: of the job file.
        nodes: lists the nodes of the cluster at an address.

    Raises:
        ClusterError: the cluster has to be asked and does not respond.
    """
    if device == "cpu" or cluster.gpus_per_worker == 0:
        return None
    if cluster.address is None:
        return local_gpus().capability
    if cluster.gpus_per_worker is not None:
        return _capability_of([cluster.labels])
    everywhere = nodes(cluster.address)
    allowed = [node for node in everywhere if node.matches_labels(cluster.labels)] or everywhere
    return _capability_of(node.labels for node in allowed if node.gpus)


def _capability_of(labels: Iterable[Mapping[str, str]]) -> tuple[int, int] | None:
    """Return the least capability of nodes with these labels; None without any node."""
    return min((OLDER_GPUS.get(each.get(TYPE_LABEL, ""), AMPERE) for each in labels), default=None)
