"""Jobs on a schedule as plain values: KubeRay's RayCronJob, and a CronJob of Kubernetes that runs on one machine."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.fingerprint import fingerprint
from ray_jobs.job_file.command_needs import SCHEDULED_OPTIONS, ScheduledCommand
from ray_jobs.job_file.deploy_section import DeploySection
from ray_jobs.job_file.reading import job_file_text
from ray_jobs.job_file.sections import Job
from ray_jobs.manifest.groups import Group, worker_groups
from ray_jobs.manifest.kuberay import API, JOB_FILE, QUEUE, config_map, labels_of, metadata, ray_job_spec
from ray_jobs.manifest.kubernetes_text import YamlMap, kubernetes_name
from ray_jobs.manifest.pods import JOB_CONTAINER, JOB_FOLDER, job_pod
from ray_jobs.manifest.sizing import WorkerShape

LATEST_START_S = 3600
"""Seconds after its time that Kubernetes may still start a job. It counts at most 100 missed times, and starts nothing
if there are more: in an hour there are 60."""
KEPT_JOBS = 3
"""Finished jobs whose pods and logs stay, of those that succeeded and of those that failed."""
NOT_RETRIED = (2, 3)
"""Exit codes that no retry can change: the job file is wrong or another process is at work, and what waits for a
person: an alarm of drift, or labels that a retraining refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CronTimes:
    """When a job runs on Kubernetes.

    Attributes:
        schedule: cron expression as Kubernetes reads it.
        time_zone: name in the IANA database.
        suspended: whether nothing is started until that is changed.
    """

    schedule: str
    time_zone: str
    suspended: bool = False


def ray_cron_job(job: Job, deploy: DeploySection, times: CronTimes, *, command: ScheduledCommand) -> list[YamlMap]:
    """Return a ConfigMap with the job file, and a RayCronJob that makes a RayJob with a cluster of its own each time.

    KubeRay has no rule for jobs that overlap, and makes up every time that its operator missed: commands have leases.
    It has none for exit codes either, so a check of drift is not tried again: it would alarm again, on another cluster.
    """
    job_file, options = _job_file_name(job, command), SCHEDULED_OPTIONS.get(command, ())
    labels = labels_of(job, command)
    job_spec = ray_job_spec(job, deploy, labels, command=command, job_file=job_file, options=options)
    spec: YamlMap = {
        "schedule": times.schedule,
        "timeZone": times.time_zone,
        "suspend": times.suspended,
        "jobTemplate": job_spec | ({"backoffLimit": 0} if command == "drift" else {}),
    }
    return [
        config_map(job, deploy, job_file, command),
        {
            "apiVersion": API,
            "kind": "RayCronJob",
            "metadata": metadata(job, deploy, queued=False, command=command),
            "spec": spec,
        },
    ]


def cron_job(job: Job, deploy: DeploySection, times: CronTimes, *, command: ScheduledCommand) -> list[YamlMap]:
    """Return a ConfigMap with the job file, and a CronJob whose pod is one machine of [deploy]; it needs no KubeRay.

    A pod that is evicted does not count as a retry, and one that ends as in `NOT_RETRIED` is not tried again.
    """
    job_file, group = _job_file_name(job, command), machine(deploy)
    labels = labels_of(job, command)
    settings = [word for setting in _settings(job, deploy, group) for word in ("--set", setting)]
    words = ["python", "-m", "ray_jobs", command, f"{JOB_FOLDER}/{JOB_FILE}", *settings]
    words += SCHEDULED_OPTIONS.get(command, ())
    of_job: YamlMap = {
        "backoffLimit": deploy.retries,
        **({} if deploy.deadline_s is None else {"activeDeadlineSeconds": deploy.deadline_s}),
        **({} if deploy.queue is None else {"suspend": True}),
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": JOB_CONTAINER, "operator": "In", "values": list(NOT_RETRIED)},
                },
            ]
        },
        "template": job_pod(deploy, group, labels, job_file=job_file, words=words),
    }
    queue = {} if deploy.queue is None else {QUEUE: deploy.queue}
    spec: YamlMap = {
        "schedule": times.schedule,
        "timeZone": times.time_zone,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": LATEST_START_S,
        "successfulJobsHistoryLimit": KEPT_JOBS,
        "failedJobsHistoryLimit": KEPT_JOBS,
        "suspend": times.suspended,
        "jobTemplate": {"metadata": {"labels": labels | queue}, "spec": of_job},
    }
    return [
        config_map(job, deploy, job_file, command),
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": metadata(job, deploy, queued=False, command=command),
            "spec": spec,
        },
    ]


def machine(deploy: DeploySection) -> Group:
    """Return the machine of a job without a cluster: one with GPUs if there are any, and no spot machine."""
    return next(group for group in worker_groups(deploy) if not group.spot)


def _settings(job: Job, deploy: DeploySection, group: Group) -> list[str]:
    """Return overrides for keys about workers that the job leaves open: Ray would count the CPUs of the whole node."""
    shape, section = WorkerShape.from_job(job, deploy), job.cluster
    fitting = shape.fit_on(deploy.gpu if group.gpus else deploy.cpu)
    return [
        *([] if section.clip_workers is not None else [f"cluster.clip_workers={fitting}"]),
        *([f"cluster.cpus_per_worker={shape.cpus:g}"] if section.cpus_per_worker is None else []),
        *([] if section.gpus_per_worker is not None else [f"cluster.gpus_per_worker={shape.gpus:g}"]),
    ]


def _job_file_name(job: Job, command: str) -> str:
    """Return the name of the ConfigMap. It changes with the content, which Kubernetes keeps as it is."""
    return f"{kubernetes_name(job.job.name)}-{command}-{fingerprint(job_file_text(job))[:8]}"
