"""Which executor a job runs on, and with how many workers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from cluster import Executor, Helpers, LocalExecutor, RayExecutor, Workers
from ray_jobs.sections import ClusterSection

WORTH_A_RAY = 1500
"""Images to embed from which starting Ray (some ten seconds of CPU) pays on a machine that holds several workers."""


def local_gpus() -> int:
    """GPUs of this machine. Costs an import of torch."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def choose(section: ClusterSection, *, threads: int, images: int | None) -> tuple[Executor, Workers]:
    """Decide.

    Args:
        section: what the job file says.
        threads: CPU threads of a worker's forward.
        images: still to be embedded; None if nobody knows, which counts as many.

    Returns:
        an executor that was not entered yet, and the workers of its embedding stages.
    """
    if section.address is not None:
        return RayExecutor(section.address), _workers(section, threads, count=section.clip_workers or 1, gpus=None)
    gpus = local_gpus()
    fitting = gpus or max(1, (os.cpu_count() or 1) // threads)
    count = section.clip_workers or fitting
    alone = count == 1 or (images is not None and images < WORTH_A_RAY and section.clip_workers is None)
    if section.mode == "process" or (section.mode == "auto" and alone):
        return LocalExecutor(), _workers(section, threads, count=1, gpus=gpus)
    workers = _workers(section, threads, count=count, gpus=gpus)
    return RayExecutor(num_cpus=max(os.cpu_count() or 1, math.ceil(count * workers.cpus))), workers


def _workers(section: ClusterSection, threads: int, *, count: int, gpus: int | None) -> Workers:
    """The shape of one worker; `gpus` is how many this machine has, None where another one runs the job."""
    wanted, memory = section.gpus_per_worker, section.memory_per_worker_gib
    cpus = section.cpus_per_worker if section.cpus_per_worker is not None else float(threads)
    has_gpu = bool(wanted) if gpus is None else bool(gpus)
    return Workers(
        count=count,
        cpus=cpus,
        gpus=(1.0 if wanted is None else wanted) if has_gpu else 0.0,
        memory_bytes=None if memory is None else round(memory * 2**30),
        labels=_pairs(section.labels) if section.address is not None else (),
        helpers=_helpers(section, max(1.0, cpus)) if section.address is not None else None,
    )


def _helpers(section: ClusterSection, cpus: float) -> Helpers | None:
    if section.decode_workers is None:
        return None
    return Helpers(count=section.decode_workers, cpus=cpus, labels=_pairs(section.decode_labels))


def _pairs(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))
