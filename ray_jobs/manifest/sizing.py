"""How many workers fit on the machines of [deploy], and defaults for keys that the job leaves open."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ray_jobs.job_file.deploy_section import CpuWorkersSection, DeploySection, GpuWorkersSection
from ray_jobs.job_file.sections import Job
from ray_jobs.steps.placement import cpus_beside_gpus

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerShape:
    """Resources of a worker.

    Attributes:
        cpus: CPUs, >= 0.
        gpus: GPUs, >= 0; a fraction shares one.
        memory_gib: memory that it reserves in GiB; 0 reserves none.
    """

    cpus: float
    gpus: float
    memory_gib: float

    @classmethod
    def from_job(cls, job: Job, deploy: DeploySection) -> WorkerShape:
        """Return the resources in the job file, by default a GPU if there are any, and CPUs, see `_cpus`."""
        cluster = job.cluster
        gpus = cluster.gpus_per_worker if cluster.gpus_per_worker is not None else float(deploy.gpu.max > 0)
        cpus = cluster.cpus_per_worker if cluster.cpus_per_worker is not None else _cpus(job, deploy, gpus)
        return cls(cpus=cpus, gpus=gpus, memory_gib=cluster.memory_per_worker_gib or 0.0)

    def fit_on(self, machine: CpuWorkersSection) -> int:
        """Return how many workers fit on a machine. A worker with a fraction of a GPU uses one GPU."""
        gpus = machine.gpus if isinstance(machine, GpuWorkersSection) else 0
        counts = [math.floor(machine.cpus / self.cpus + _ROUNDING)] if self.cpus else []
        if self.memory_gib:
            counts.append(math.floor(machine.memory_gib / self.memory_gib + _ROUNDING))
        if 0 < self.gpus < 1:
            counts.append(gpus * math.floor(1 / self.gpus + _ROUNDING))
        elif self.gpus:
            counts.append(math.floor(gpus / self.gpus + _ROUNDING))
        return min(counts, default=1)


def _cpus(job: Job, deploy: DeploySection, gpus: float) -> float:
    """Return the CPUs of a worker: `clip.threads`, or its part of a machine with GPUs, unless other machines decode."""
    threads = float(job.clip.threads)
    if not gpus or not deploy.gpu.max or job.cluster.decode_workers is not None:
        return threads
    return max(threads, cpus_beside_gpus(deploy.gpu.cpus, deploy.gpu.gpus, gpus))


def capacity(shape: WorkerShape, deploy: DeploySection) -> int:
    """Return how many workers fit on all machines."""
    return sum(group.max * shape.fit_on(group) for group in (deploy.gpu, deploy.cpu))


def settings(job: Job, deploy: DeploySection) -> list[str]:
    """Return overrides ("section.key=value") for keys about workers that the job leaves open.

    The driver runs on the cluster, with as many workers as fit, on GPUs where there are any.
    """
    shape = WorkerShape.from_job(job, deploy)
    return [
        "cluster.address=auto",
        *([] if job.cluster.clip_workers is not None else [f"cluster.clip_workers={capacity(shape, deploy)}"]),
        *([f"cluster.cpus_per_worker={shape.cpus:g}"] if shape.gpus and job.cluster.cpus_per_worker is None else []),
        *([] if job.cluster.gpus_per_worker is not None else [f"cluster.gpus_per_worker={shape.gpus:g}"]),
    ]


def sizing_problems(job: Job, deploy: DeploySection) -> list[str]:
    """Return a problem for workers that fit nowhere, for too many workers, and for impossible numbers of machines."""
    problems = [
        f"[deploy.{name}] min: expected at most max = {section.max}, got {section.min}"
        for name, section in (("gpu", deploy.gpu), ("cpu", deploy.cpu))
        if section.min > section.max
    ]
    problems += [
        f"[deploy] shared_memory_gib: expected at most half of the {memory_gib} GiB of [deploy.{name}] memory_gib, got "
        f"{deploy.shared_memory_gib}"
        for name, memory_gib in _memories(deploy).items()
        if 2 * deploy.shared_memory_gib > memory_gib
    ]
    if not deploy.gpu.max and not deploy.cpu.max:
        return [*problems, "[deploy]: no machines for workers; set max of [deploy.gpu] or [deploy.cpu] to 1 or more"]
    return problems + _worker_problems(job, deploy)


def _memories(deploy: DeploySection) -> dict[str, int]:
    groups = {"gpu": deploy.gpu, "cpu": deploy.cpu}
    return {"head": deploy.head.memory_gib} | {name: group.memory_gib for name, group in groups.items() if group.max}


def _worker_problems(job: Job, deploy: DeploySection) -> list[str]:
    shape = WorkerShape.from_job(job, deploy)
    if shape.gpus > 1 and shape.gpus % 1:
        return [f"[cluster] gpus_per_worker: expected whole GPUs or a fraction below 1, got {shape.gpus:g}"]
    fitting, requested = capacity(shape, deploy), job.cluster.clip_workers
    if not fitting:
        gpu, cpu = deploy.gpu, deploy.cpu
        machines = [
            f"{gpu.cpus} CPUs and {gpu.gpus} GPUs with {gpu.memory_gib} GiB" if gpu.max else "",
            f"{cpu.cpus} CPUs with {cpu.memory_gib} GiB" if cpu.max else "",
        ]
        memory = f" with {shape.memory_gib:g} GiB" if shape.memory_gib else ""
        worker, available = (
            f"{shape.cpus:g} CPUs and {shape.gpus:g} GPUs{memory}",
            " and of ".join(filter(None, machines)),
        )
        return [f"[cluster]: a worker with {worker} fits on no machine; [deploy] has machines of {available}"]
    if requested is not None and requested > fitting:
        return [
            f"[cluster] clip_workers: expected at most {fitting}, as fit on the machines of [deploy], got {requested}"
        ]
    return []
