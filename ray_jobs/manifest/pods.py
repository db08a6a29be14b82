"""The pods of a Ray cluster on Kubernetes, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ray_jobs.job_file.deploy_section import DeploySection
from ray_jobs.manifest.groups import Group
from ray_jobs.manifest.kubernetes_text import YamlMap

JOB_FOLDER = "/etc/fewshot"
"""Folder of the job file on the head."""
JOB_CONTAINER = "fewshot"
"""Container of a job that runs on one machine."""
USER = 1000
"""User ID of the image, see `Dockerfile`."""
_AFTER_DRAIN_S = 30
_ON_DEMAND_ONLY = "requiredDuringSchedulingIgnoredDuringExecution"


def head_pod(deploy: DeploySection, labels: Mapping[str, str], *, job_file: str | None) -> YamlMap:
    """Return the pod of Ray's head and of the driver, which must not be evicted.

    Args:
        deploy: section [deploy].
        labels: of the pod.
        job_file: name of the ConfigMap with the job file; None mounts none.
    """
    head = deploy.head
    mounts, volumes = _job_file(job_file)
    container = _container("ray-head", deploy, cpus=head.cpus, memory_gib=head.memory_gib, gpus=0, mounts=mounts)
    container["ports"] = [
        {"containerPort": port, "name": name}
        for name, port in (("gcs-server", 6379), ("dashboard", 8265), ("client", 10001))
    ]
    pod = _pod(deploy, container, volumes=volumes)
    annotations = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
    return {"metadata": {"labels": dict(labels), "annotations": annotations}, "spec": pod | _away_from_spot(deploy)}


def worker_pod(deploy: DeploySection, group: Group, labels: Mapping[str, str]) -> YamlMap:
    """Return the pod of a worker machine, which has no access to Kubernetes."""
    container = _container("ray-worker", deploy, cpus=group.cpus, memory_gib=group.memory_gib, gpus=group.gpus)
    pod = _pod(deploy, container) | {"automountServiceAccountToken": False}
    return {"metadata": {"labels": dict(labels)}, "spec": pod | _placement(deploy, group)}


def job_pod(
    deploy: DeploySection, group: Group, labels: Mapping[str, str], *, job_file: str, words: Sequence[str]
) -> YamlMap:
    """Return the pod of a whole job on one machine, without a cluster.

    Args:
        deploy: section [deploy].
        group: what machine it needs.
        labels: of the pod.
        job_file: name of the ConfigMap with the job file.
        words: the command.
    """
    mounts, volumes = _job_file(job_file)
    container = _container(
        JOB_CONTAINER, deploy, cpus=group.cpus, memory_gib=group.memory_gib, gpus=group.gpus, mounts=mounts
    )
    container["command"] = list(words)
    pod = _pod(deploy, container, volumes=volumes) | {"automountServiceAccountToken": False, "restartPolicy": "Never"}
    return {"metadata": {"labels": dict(labels)}, "spec": pod | _placement(deploy, group)}


def _job_file(name: str | None) -> tuple[list[YamlMap], list[YamlMap]]:
    """Return mounts and volumes for the ConfigMap with the job file; none without a name."""
    if name is None:
        return [], []
    mounts: list[YamlMap] = [{"name": "job", "mountPath": JOB_FOLDER, "readOnly": True}]
    return mounts, [{"name": "job", "configMap": {"name": name}}]


def _placement(deploy: DeploySection, group: Group) -> YamlMap:
    """Return on which nodes a pod of a group may be placed."""
    placement: YamlMap = {}
    tolerated = ["nvidia.com/gpu"] if group.gpus else []
    selector = dict(group.selector)
    if group.spot:
        selector |= deploy.spot_selector
        tolerated += deploy.spot_selector
    if selector:
        placement["nodeSelector"] = selector
    if tolerated:
        placement["tolerations"] = [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in tolerated]
    return placement | ({} if group.spot else _away_from_spot(deploy))


def submitter_pod(deploy: DeploySection, labels: Mapping[str, str]) -> YamlMap:
    """Return the pod that submits the job and follows its log; KubeRay adds the command and the token."""
    container: YamlMap = {
        "name": "ray-job-submitter",
        "image": deploy.image,
        "resources": resources(cpus=1, memory_gib=1, gpus=0),
        "securityContext": security(),
    }
    pod = _user(deploy) | {"automountServiceAccountToken": False, "restartPolicy": "Never", "containers": [container]}
    return {"metadata": {"labels": dict(labels)}, "spec": pod | _away_from_spot(deploy)}


def security() -> YamlMap:
    """Return the security context of a container: no rights beyond those of any user."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def resources(*, cpus: int, memory_gib: int, gpus: int) -> YamlMap:
    """Return requests and limits, which are equal: a pod may use what is reserved for it."""
    amounts = {"cpu": str(cpus), "memory": f"{memory_gib}Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    return {"requests": dict(amounts), "limits": dict(amounts)}


def object_store_bytes(deploy: DeploySection) -> int:
    """Return the size of Ray's object store: three quarters of /dev/shm. Results do not go through it."""
    return deploy.shared_memory_gib * 2**30 * 3 // 4


def _container(
    name: str, deploy: DeploySection, *, cpus: int, memory_gib: int, gpus: int, mounts: Sequence[YamlMap] = ()
) -> YamlMap:
    """Return a container with the volumes of the section and, after them, more mounts."""
    container: YamlMap = {
        "name": name,
        "image": deploy.image,
        "env": _environment(deploy),
        "resources": resources(cpus=cpus, memory_gib=memory_gib, gpus=gpus),
        "securityContext": security(),
        "volumeMounts": [
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108
            *_mounts(deploy),
            *mounts,
        ],
    }
    return container | ({} if deploy.secret is None else {"envFrom": [{"secretRef": {"name": deploy.secret}}]})


def _environment(deploy: DeploySection) -> list[dict[str, str]]:
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(deploy.drain_s),
        "RAY_USAGE_STATS_ENABLED": "0",
    } | ({} if deploy.model_cache is None else {"HF_HOME": deploy.model_cache})
    return [{"name": name, "value": value} for name, value in variables.items()]


def _mounts(deploy: DeploySection) -> list[YamlMap]:
    return [
        {"name": f"volume-{index}", "mountPath": volume.path} | ({"readOnly": True} if volume.read_only else {})
        for index, volume in enumerate(deploy.volumes)
    ]


def _pod(deploy: DeploySection, container: YamlMap, *, volumes: Sequence[YamlMap] = ()) -> YamlMap:
    return _user(deploy) | {
        "terminationGracePeriodSeconds": deploy.drain_s + _AFTER_DRAIN_S,
        "containers": [container],
        "volumes": [*_volumes(deploy), *volumes],
    }


def _user(deploy: DeploySection) -> YamlMap:
    """Return service account and user of a pod."""
    account = {} if deploy.service_account is None else {"serviceAccountName": deploy.service_account}
    files: YamlMap = {"fsGroup": USER, "fsGroupChangePolicy": "OnRootMismatch"}
    return {**account, "securityContext": {"runAsUser": USER, "runAsGroup": USER, **files}}


def _volumes(deploy: DeploySection) -> list[YamlMap]:
    found: list[YamlMap] = [
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": f"{deploy.shared_memory_gib}Gi"}}
    ]
    for index, volume in enumerate(deploy.volumes):
        claim: YamlMap = {"claimName": volume.claim, **({"readOnly": True} if volume.read_only else {})}
        found.append({"name": f"volume-{index}", "persistentVolumeClaim": claim})
    return found


def _away_from_spot(deploy: DeploySection) -> YamlMap:
    """Return an affinity that keeps a pod off spot machines, tainted or not."""
    if not deploy.spot_selector:
        return {}
    differing: Sequence[YamlMap] = [
        {"key": key, "operator": "NotIn", "values": [value]} for key, value in deploy.spot_selector.items()
    ]
    terms = [{"matchExpressions": [expression]} for expression in differing]
    return {"affinity": {"nodeAffinity": {_ON_DEMAND_ONLY: {"nodeSelectorTerms": terms}}}}
