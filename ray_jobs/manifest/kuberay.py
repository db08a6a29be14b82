"""KubeRay's RayCluster and RayJob, as plain values."""

from __future__ import annotations

import shlex
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
            "metadata": _metadata(job, deploy, queued=True),
            "spec": suspended | _cluster(job, deploy, job_file=None),
        }
    ]


def ray_job(job: Job, deploy: DeploySection, *, command: str) -> list[YamlMap]:
    """Return a ConfigMap with the job file, and a RayJob whose cluster lives as long as the job.

    Args:
        job: the job.
        deploy: its section [deploy].
        command: command that reads the job file.
    """
    settings_ = [word for setting in settings(job, deploy) for word in ("--set", setting)]
    entrypoint = ["python", "-m", "ray_jobs", command, f"{JOB_FOLDER}/{JOB_FILE}", *settings_]
    job_file = f"{kubernetes_name(job.job.name)}-job"
    spec: YamlMap = {
        "entrypoint": shlex.join(entrypoint),
        "submissionMode": "K8sJobMode",
        "submitterPodTemplate": submitter_pod(deploy, _labels(job)),
        "backoffLimit": deploy.retries,
        **({} if deploy.deadline_s is None else {"activeDeadlineSeconds": deploy.deadline_s}),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": deploy.keep_s,
        **({} if deploy.queue is None else {"suspend": True}),
        "rayClusterSpec": _cluster(job, deploy, job_file=job_file),
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _metadata(job, deploy, queued=False) | {"name": job_file},
            "immutable": True,
            "data": {JOB_FILE: job_file_text(job)},
        },
        {"apiVersion": API, "kind": "RayJob", "metadata": _metadata(job, deploy, queued=True), "spec": spec},
    ]


def _metadata(job: Job, deploy: DeploySection, *, queued: bool) -> YamlMap:
    labels = _labels(job) | ({QUEUE: deploy.queue} if queued and deploy.queue is not None else {})
    namespace = {} if deploy.namespace is None else {"namespace": deploy.namespace}
    return {"name": kubernetes_name(job.job.name), **namespace, "labels": labels}


def _labels(job: Job) -> dict[str, str]:
    return {"app.kubernetes.io/name": "fewshot", "app.kubernetes.io/instance": kubernetes_name(job.job.name)}


def _cluster(job: Job, deploy: DeploySection, *, job_file: str | None) -> YamlMap:
    """Return the spec of the cluster; with a queue it has a fixed size: Kueue starts all machines or none."""
    labels = _labels(job)
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
