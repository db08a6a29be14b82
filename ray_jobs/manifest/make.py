"""Make a manifest from a job file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from ray_jobs.job_file.command_needs import (
    NEEDS,
    SCHEDULED_LIKE,
    JobCommand,
    ManifestKind,
    ScheduledCommand,
    ScheduleKind,
)
from ray_jobs.job_file.deploy_section import DeploySection
from ray_jobs.job_file.reading import read_job, stop_if_any
from ray_jobs.job_file.sections import Job
from ray_jobs.manifest.cron_jobs import CronTimes, cron_job, ray_cron_job
from ray_jobs.manifest.kuberay import ray_cluster, ray_job
from ray_jobs.manifest.kubernetes_text import YamlMap, to_yaml
from ray_jobs.manifest.launcher import launcher
from ray_jobs.manifest.problems import find_problems, find_schedule_problems
from ray_jobs.preflight import scheduled_command_problems

_APPLY = {"rayjob": "kubectl apply -f FILE", "raycluster": "kubectl apply -f FILE", "launcher": "ray up FILE"}

NO_DEPLOY = (
    'to run on Kubernetes, add [deploy] and image = "registry/fewshot:0.1.0" to the job file (docs/cluster.md)'
    "; to run without it: --local, or --systemd"
)
"""What to do about the missing section of a job that is to be scheduled."""


def make_manifest(
    path: str | Path, overrides: Sequence[str] = (), *, kind: ManifestKind = "rayjob", command: JobCommand = "classify"
) -> str:
    """Read a job file and return the manifest that deploys the job.

    Args:
        path: the job file.
        overrides: "section.key=value", see `read_job`.
        kind: "rayjob" (a cluster that lives as long as the job), "raycluster" (one that stays) or "launcher" (for
            `ray up`).
        command: command that a "rayjob" runs.

    Returns:
        YAML, the same bytes for the same job file and versions.

    Raises:
        JobError: the job file is wrong, or something in it cannot work on the cluster; with every problem.
    """
    job, problems = read_job(path, overrides, needs=("deploy", *(NEEDS[command] if kind == "rayjob" else ())))
    if job.deploy is not None:
        problems += find_problems(job, job.deploy, kind=kind, command=command if kind == "rayjob" else None)
    stop_if_any(problems)
    assert job.deploy is not None
    return to_yaml(
        _documents(job, job.deploy, kind, command),
        comment=f"Written by fewshot {version('fewshot')}. To deploy it: {_APPLY[kind]}",
    )


def _documents(job: Job, deploy: DeploySection, kind: ManifestKind, command: JobCommand) -> list[YamlMap]:
    if kind == "launcher":
        assert deploy.aws is not None
        return launcher(job, deploy, deploy.aws)
    return ray_cluster(job, deploy) if kind == "raycluster" else ray_job(job, deploy, command=command)


def make_schedule_manifest(
    path: str | Path,
    overrides: Sequence[str],
    times: CronTimes,
    *,
    kind: ScheduleKind = "raycronjob",
    command: ScheduledCommand = "retrain",
) -> str:
    """Read a job file and return the manifest that runs a command on it again and again.

    Args:
        path: the job file.
        overrides: "section.key=value", see `read_job`.
        times: when it runs.
        kind: "raycronjob" (a Ray cluster of its own each time) or "cronjob" (one machine, without KubeRay).
        command: that runs.

    Returns:
        YAML, the same bytes for the same job file and versions.

    Raises:
        JobError: the job file is wrong, the command would refuse it, or something in it cannot work on the cluster;
            with every problem.
    """
    job, problems = read_job(path, overrides, needs=("deploy", *NEEDS[SCHEDULED_LIKE]))
    problems += scheduled_command_problems(job, command)
    if job.deploy is None and "deploy" not in job.wrong:
        problems.append(NO_DEPLOY)
    if job.deploy is not None:
        problems += find_problems(job, job.deploy, kind=kind, command=SCHEDULED_LIKE)
        problems += find_schedule_problems(job, job.deploy, kind=kind, command=command)
    stop_if_any(problems)
    assert job.deploy is not None
    make = ray_cron_job if kind == "raycronjob" else cron_job
    return to_yaml(
        make(job, job.deploy, times, command=command),
        comment=f"Written by fewshot {version('fewshot')}. To deploy it: kubectl apply -f FILE",
    )
