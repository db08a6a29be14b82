"""KubeRay's RayCluster and RayJob, as plain values."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from ray_jobs.job_file.deploy_section import DeploySection
from ray_jobs.job_file.reading import job_file_text
from ray_jobs.job_file.sections import Job
from ray_jobs.manifest.groups import Group, worker_groups
from ray_jobs.manifest.kubernetes_text import YamlMap, kubernetes_name
from ray_jobs.manifest.pods import (
    JOB_FOLDER,
    head_pod,
    object_store_bytes,
    resources,
    security,
    submitter_pod,
    worker_pod,
)
from ray_jobs.manifest.sizing import settings

API = "ray.io/v1"
JOB_FILE = "job.toml"
QUEUE = "kueue.x-k8s.io/queue-name"


def ray_cluster(job: Job, deploy: DeploySection) -> list[YamlMap]:
    """Return a RayCluster that stays, for jobs submitted to it."""
    suspended = {} if deploy.queue is None else {"suspend": True}
    return [
        {
            "apiVersion": API,
            "kind": "RayCluster",
            "metadata": metadata(job, deploy, queued=True),
            "spec": suspended | _cluster(deploy, labels_of(job), job_file=None),
        }
    ]


def ray_job(job: Job, deploy: DeploySection, *, command: str) -> list[YamlMap]:
    """Return a ConfigMap with the job file, and a RayJob whose cluster lives as long as the job.

    Args:
        job: the job.
        deploy: its section [deploy].
        command: command that reads the job file.
    """
    job_file = f"{kubernetes_name(job.job.name)}-job"
    return [
        config_map(job, deploy, job_file),
        {
            "apiVersion": API,
            "kind": "RayJob",
            "metadata": metadata(job, deploy, queued=True),
            "spec": ray_job_spec(job, deploy, labels_of(job), command=command, job_file=job_file),
        },
    ]


def ray_job_spec(
    job: Job,
    deploy: DeploySection,
    labels: Mapping[str, str],
    *,
    command: str,
    job_file: str,
    options: Sequence[str] = (),
) -> YamlMap:
    """Return the spec of a RayJob.

    Args:
        job: the job.
        deploy: its section [deploy].
        labels: of its pods.
        command: command that reads the job file.
        job_file: name of the ConfigMap with the job file.
        options: more words of the command line.
    """
    settings_ = [word for setting in settings(job, deploy) for word in ("--set", setting)]
    entrypoint = ["python", "-m", "ray_jobs", command, f"{JOB_FOLDER}/{JOB_FILE}", *settings_, *options]
    return {
        "entrypoint": shlex.join(entrypoint),
        "submissionMode": "K8sJobMode",
        "submitterPodTemplate": submitter_pod(deploy, labels),
        "backoffLimit": deploy.retries,
        **({} if deploy.deadline_s is None else {"activeDeadlineSeconds": deploy.deadline_s}),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": deploy.keep_s,
        **({} if deploy.queue is None else {"suspend": True}),
        "rayClusterSpec": _cluster(deploy, labels, job_file=job_file),
    }


def config_map(job: Job, deploy: DeploySection, name: str, command: str | None = None) -> YamlMap:
    """Return a ConfigMap with the job file, for all commands or for one."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(job, deploy, queued=False, command=command) | {"name": name},
        "immutable": True,
        "data": {JOB_FILE: job_file_text(job)},
    }


def metadata(job: Job, deploy: DeploySection, *, queued: bool, command: str | None = None) -> YamlMap:
    """Return name, namespace and labels; of something `queued` by Kueue also its queue, if the section has one.

    Args:
        job: the job.
        deploy: its section [deploy].
        queued: whether Kueue starts it.
        command: the name ends with it, so that each command of a job may have one; None if there is one for all.
    """
    labels = labels_of(job, command) | ({QUEUE: deploy.queue} if queued and deploy.queue is not None else {})
    namespace = {} if deploy.namespace is None else {"namespace": deploy.namespace}
    name = kubernetes_name(job.job.name)
    return {"name": name if command is None else f"{name}-{command}", **namespace, "labels": labels}


def labels_of(job: Job, command: str | None = None) -> dict[str, str]:
    """Return the labels of everything that belongs to a job or, with a command, to that command of it."""
    component = {} if command is None else {"app.kubernetes.io/component": command}
    instance = kubernetes_name(job.job.name)
    return {"app.kubernetes.io/name": "fewshot", "app.kubernetes.io/instance": instance, **component}


def _cluster(deploy: DeploySection, labels: Mapping[str, str], *, job_file: str | None) -> YamlMap:
    """Return the spec of the cluster; with a queue it has a fixed size: Kueue starts all machines or none."""
    start = {"object-store-memory": str(object_store_bytes(deploy))}
    return {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token"},
        **(_autoscaling(deploy) if deploy.queue is None else {"enableInTreeAutoscaling": False}),
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0", **start},  # noqa: S104
            "template": head_pod(deploy, labels, job_file=job_file),
        },
        "workerGroupSpecs": [
            _replicas(group, fixed=deploy.queue is not None)
            | group.priority
            | {
                "labels": group.labels,
                "rayStartParams": start,
                "template": worker_pod(deploy, group, labels),
            }
            for group in worker_groups(deploy)
        ],
    }


def _autoscaling(deploy: DeploySection) -> YamlMap:
    options: YamlMap = {
        "version": "v2",
        "idleTimeoutSeconds": deploy.idle_s,
        "resources": resources(cpus=1, memory_gib=1, gpus=0),
        "securityContext": security(),
    }
    return {"enableInTreeAutoscaling": True, "autoscalerOptions": options}


def _replicas(group: Group, *, fixed: bool) -> YamlMap:
    fewest = group.max if fixed else group.min
    return {"groupName": group.name, "replicas": fewest, "minReplicas": fewest, "maxReplicas": group.max}
