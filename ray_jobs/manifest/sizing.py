"""How many workers fit on the machines, and what a job leaves open about them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ray_jobs.job_file.deploy_section import CpuWorkersSection, DeploySection, GpuWorkersSection
from ray_jobs.job_file.sections import Job

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerShape:
    """What one worker occupies.

    Attributes:
        cpus: CPUs, >= 0.
        gpus: GPUs, >= 0; a fraction shares one.
        memory_gib: GiB that it reserves; 0 reserves none.
    """

    cpus: float
    gpus: float
    memory_gib: float

    @classmethod
    def from_job(cls, job: Job, deploy: DeploySection) -> WorkerShape:
        """As the job file says, else one GPU where there are any, and the CPUs of one forward."""
        cluster = job.cluster
        gpus = cluster.gpus_per_worker if cluster.gpus_per_worker is not None else float(deploy.gpu.max > 0)
        cpus = cluster.cpus_per_worker if cluster.cpus_per_worker is not None else job.clip.threads
        return cls(cpus=cpus, gpus=gpus, memory_gib=cluster.memory_per_worker_gib or 0.0)

    def fit_on(self, machine: CpuWorkersSection) -> int:
        """How many of these fit on one machine. A fraction of a GPU lies on one GPU."""
        gpus = machine.gpus if isinstance(machine, GpuWorkersSection) else 0
        rooms = [math.floor(machine.cpus / self.cpus + _ROUNDING)] if self.cpus else []
        if self.memory_gib:
            rooms.append(math.floor(machine.memory_gib / self.memory_gib + _ROUNDING))
        if 0 < self.gpus < 1:
            rooms.append(gpus * math.floor(1 / self.gpus + _ROUNDING))
        elif self.gpus:
            rooms.append(math.floor(gpus / self.gpus + _ROUNDING))
        return min(rooms, default=1)


def capacity(shape: WorkerShape, deploy: DeploySection) -> int:
    """How many workers fit on all machines at most."""
    return sum(group.max * shape.fit_on(group) for group in (deploy.gpu, deploy.cpu))


def settings(job: Job, deploy: DeploySection) -> list[str]:
    """What the manifest decides about the job's workers: "section.key=value" as `--set` takes it.

    The driver runs on the cluster; workers are as many as fit, on GPUs where there are any, unless the job file says
    otherwise.
    """
    shape = WorkerShape.from_job(job, deploy)
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
    shape = WorkerShape.from_job(job, deploy)
    if shape.gpus > 1 and shape.gpus % 1:
        return [f"[cluster] gpus_per_worker: Ray gives whole GPUs or a part of one, got {shape.gpus:g}"]
    room, wanted = capacity(shape, deploy), job.cluster.clip_workers
    if not room:
        gpu, cpu = deploy.gpu, deploy.cpu
        machines = [
            f"{gpu.cpus} CPUs and {gpu.gpus} GPUs with {gpu.memory_gib} GiB" if gpu.max else "",
            f"{cpu.cpus} CPUs with {cpu.memory_gib} GiB" if cpu.max else "",
        ]
        memory = f" with {shape.memory_gib:g} GiB" if shape.memory_gib else ""
        asked, has = f"{shape.cpus:g} CPUs and {shape.gpus:g} GPUs{memory}", " and of ".join(filter(None, machines))
        return [f"[cluster] a worker of {asked} fits on no machine; [deploy] has machines of {has}"]
    if wanted is not None and wanted > room:
        return [
            f"[cluster] clip_workers: {wanted} are more than the {room} that all machines of [deploy] hold; raise max"
        ]
    return []
