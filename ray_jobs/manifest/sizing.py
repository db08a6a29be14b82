"""How many workers fit on the machines, and what a job leaves open about them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ray_jobs.deploy import DeploySection
from ray_jobs.sections import Job

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerShape:
    """What one worker occupies.

    Attributes:
        cpus: CPUs, >= 0.
        gpus: GPUs, >= 0; a fraction shares one.
    """

    cpus: float
    gpus: float

    @classmethod
    def of(cls, job: Job, deploy: DeploySection) -> WorkerShape:
        """As the job file says, else one GPU where there are any, and the CPUs of one forward."""
        cluster = job.cluster
        gpus = cluster.gpus_per_worker if cluster.gpus_per_worker is not None else float(deploy.gpu.max > 0)
        return cls(cpus=cluster.cpus_per_worker if cluster.cpus_per_worker is not None else job.clip.threads, gpus=gpus)

    def fit_on(self, *, cpus: int, gpus: int) -> int:
        """How many of these fit on one machine. A fraction of a GPU lies on one GPU."""
        rooms = [math.floor(cpus / self.cpus + _ROUNDING)] if self.cpus else []
        if 0 < self.gpus < 1:
            rooms.append(gpus * math.floor(1 / self.gpus + _ROUNDING))
        elif self.gpus:
            rooms.append(math.floor(gpus / self.gpus + _ROUNDING))
        return min(rooms, default=1)


def capacity(shape: WorkerShape, deploy: DeploySection) -> int:
    """How many workers fit on all machines at most."""
    gpu, cpu = deploy.gpu, deploy.cpu
    return gpu.max * shape.fit_on(cpus=gpu.cpus, gpus=gpu.gpus) + cpu.max * shape.fit_on(cpus=cpu.cpus, gpus=0)


def settings(job: Job, deploy: DeploySection) -> list[str]:
    """What the manifest decides about the job's workers: "section.key=value" as `--set` takes it.

    The driver runs on the cluster; workers are as many as fit, on GPUs where there are any, unless the job file says
    otherwise.
    """
    shape = WorkerShape.of(job, deploy)
    return [
        "cluster.address=auto",
        *([] if job.cluster.clip_workers is not None else [f"cluster.clip_workers={capacity(shape, deploy)}"]),
        *([] if job.cluster.gpus_per_worker is not None else [f"cluster.gpus_per_worker={shape.gpus:g}"]),
    ]


def sizing_problems(job: Job, deploy: DeploySection) -> list[str]:
    """Workers that fit nowhere, more of them than there is room for, and impossible numbers of machines."""
    problems = [
        f"[deploy.{name}] min: {section.min} machines are more than max = {section.max}"
        for name, section in (("gpu", deploy.gpu), ("cpu", deploy.cpu))
        if section.min > section.max
    ]
    problems += [
        f"[deploy] shared_memory_gib: {deploy.shared_memory_gib} GiB leave nothing of the {memory_gib} GiB of "
        f"[deploy.{name}] memory_gib; take less than half of it"
        for name, memory_gib in _memories(deploy).items()
        if 2 * deploy.shared_memory_gib > memory_gib
    ]
    if not deploy.gpu.max and not deploy.cpu.max:
        return [*problems, "[deploy] has no machine for workers: give [deploy.gpu] or [deploy.cpu] a max of 1 or more"]
    return problems + _worker_problems(job, deploy)


def _memories(deploy: DeploySection) -> dict[str, int]:
    groups = {"gpu": deploy.gpu, "cpu": deploy.cpu}
    return {"head": deploy.head.memory_gib} | {name: group.memory_gib for name, group in groups.items() if group.max}


def _worker_problems(job: Job, deploy: DeploySection) -> list[str]:
    shape = WorkerShape.of(job, deploy)
    if shape.gpus > 1 and shape.gpus % 1:
        return [f"[cluster] gpus_per_worker: Ray gives whole GPUs or a part of one, got {shape.gpus:g}"]
    room, wanted = capacity(shape, deploy), job.cluster.clip_workers
    if not room:
        gpu, cpu = deploy.gpu, deploy.cpu
        machines = [f"{gpu.cpus} CPUs and {gpu.gpus} GPUs" if gpu.max else "", f"{cpu.cpus} CPUs" if cpu.max else ""]
        asked, has = f"{shape.cpus:g} CPUs and {shape.gpus:g} GPUs", " and of ".join(filter(None, machines))
        return [f"[cluster] a worker of {asked} fits on no machine; [deploy] has machines of {has}"]
    if wanted is not None and wanted > room:
        return [
            f"[cluster] clip_workers: {wanted} are more than the {room} that all machines of [deploy] hold; raise max"
        ]
    return []
