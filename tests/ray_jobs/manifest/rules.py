"""Rules of KubeRay's operator, of Kubernetes and of Kueue beyond the schema, as far as these manifests need them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from zoneinfo import available_timezones

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
LONGEST = {"RayJob": 47, "RayCluster": 53, "RayCronJob": 36, "CronJob": 52, "ConfigMap": 253}
MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
QUEUE = "kueue.x-k8s.io/queue-name"


def broken_rules(document: dict[str, Any]) -> list[str]:
    """The broken rules of a document, in words."""
    name, kind = document["metadata"]["name"], document["kind"]
    found = [*_labels(document["metadata"].get("labels", {}))]
    if len(name) > LONGEST[kind] or not DNS_1035.fullmatch(name):
        found.append(f"{name!r} is no name of a {kind}")
    if kind == "RayJob":
        found += [*_job(document["spec"]), *_cluster(document["spec"]["rayClusterSpec"])]
        if "enableK8sTokenAuth" in document["spec"]["rayClusterSpec"].get("authOptions", {}):
            found.append("a RayJob cannot have enableK8sTokenAuth")
    if kind == "RayCluster":
        found += _cluster(document["spec"])
    if kind == "RayCronJob":
        template = document["spec"]["jobTemplate"]
        found += [*_times(document["spec"]), *_job(template), *_cluster(template["rayClusterSpec"])]
        if template.get("suspend"):
            found.append("without a queue a suspended job never starts")
    if kind == "CronJob":
        found += [*_times(document["spec"]), *_cron_job(document["spec"])]
    if QUEUE in document["metadata"].get("labels", {}):
        found += _queued(document)
    return found


def _job(spec: dict[str, Any]) -> Iterator[str]:
    if spec["submissionMode"] not in MODES:
        yield f"submissionMode {spec['submissionMode']!r} is unknown"
    shutdown = spec.get("shutdownAfterJobFinishes", False)
    if spec.get("ttlSecondsAfterFinished", 0) and not shutdown:
        yield "ttlSecondsAfterFinished needs shutdownAfterJobFinishes"
    if spec.get("suspend") and not shutdown:
        yield "suspend needs shutdownAfterJobFinishes"
    if spec.get("ttlSecondsAfterFinished", 0) < 0 or spec.get("backoffLimit", 0) < 0:
        yield "negative numbers"
    if spec.get("activeDeadlineSeconds", 1) <= 0:
        yield "activeDeadlineSeconds must be positive"
    submitter = spec["submitterPodTemplate"]["spec"]
    if submitter.get("restartPolicy") not in ("Never", "OnFailure"):
        yield "a pod of a Job says whether it is restarted"
    if "command" in submitter["containers"][0]:
        yield "KubeRay's own command submits"


def _times(spec: dict[str, Any]) -> Iterator[str]:
    """What both controllers read by the same parser, which knows neither Sunday as 7 nor a zone in the expression."""
    fields = spec["schedule"].split()
    if len(fields) != 5 or "TZ" in spec["schedule"] or re.search(r"(^|[,-])7", fields[-1]):
        yield f"{spec['schedule']!r} is no schedule"
    if spec["timeZone"] not in available_timezones():
        yield f"{spec['timeZone']!r} is no zone"


def _cron_job(spec: dict[str, Any]) -> Iterator[str]:
    """Kubernetes' rules for a CronJob, its Job and its pod."""
    job = spec["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    names = {container["name"] for container in pod["containers"]}
    if spec["concurrencyPolicy"] not in ("Allow", "Forbid", "Replace"):
        yield f"concurrencyPolicy {spec['concurrencyPolicy']!r} is unknown"
    if spec["startingDeadlineSeconds"] < 10:
        yield "the controller looks every ten seconds"
    if pod["restartPolicy"] != "Never":
        yield "a podFailurePolicy needs restartPolicy Never"
    for rule in job["podFailurePolicy"]["rules"]:
        exits = rule.get("onExitCodes")
        if exits is not None and (exits["containerName"] not in names or 0 in exits["values"]):
            yield "a rule for another container, or for success"
    if not job.get("suspend") and QUEUE in spec["jobTemplate"]["metadata"]["labels"]:
        yield "Kueue starts what is suspended"
    for container in pod["containers"]:
        yield from _container(
            container, [volume["name"] for volume in pod["volumes"]], pod["terminationGracePeriodSeconds"]
        )


def _cluster(spec: dict[str, Any]) -> Iterator[str]:
    groups = spec["workerGroupSpecs"]
    names = [group["groupName"] for group in groups]
    if len(set(names)) < len(names) or not all(map(DNS_1035.fullmatch, names)):
        yield f"groups cannot be called {names}"
    for group in groups:
        if not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
            yield f"{group['groupName']}: minReplicas <= replicas <= maxReplicas"
        if "priority" in group and spec.get("autoscalerOptions", {}).get("version") != "v2":
            yield "only the autoscaler v2 knows priorities"
    for group in (spec["headGroupSpec"], *groups):
        yield from _group(group)
        if spec.get("enableInTreeAutoscaling") and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield "restartPolicy must be Never with autoscaling v2"
    if spec.get("authOptions", {}).get("mode") != "token":
        yield "anybody may run code on a cluster without tokens"
    elif tuple(map(int, spec["rayVersion"].split("."))) < (2, 52, 0):
        yield "tokens need ray 2.52"
    if spec["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0":
        yield "workers could be placed on the head"


def _group(group: dict[str, Any]) -> Iterator[str]:
    yield from _labels(group.get("labels", {}))
    if "labels" in group["rayStartParams"]:
        yield "labels are no rayStartParams"
    if group.get("resources") and {"num-cpus", "num-gpus", "memory", "resources"} & set(group["rayStartParams"]):
        yield "resources are given twice"
    pod = group["template"]["spec"]
    if not pod["containers"]:
        yield "a pod without containers"
    volumes = [volume["name"] for volume in pod.get("volumes", [])]
    if len(set(volumes)) < len(volumes):
        yield "two volumes of one name"
    for container in pod["containers"]:
        yield from _container(container, volumes, pod.get("terminationGracePeriodSeconds", 30))


def _container(container: dict[str, Any], volumes: list[str], grace_s: int) -> Iterator[str]:
    environment = {item["name"]: item.get("value") for item in container["env"]}
    mounts = container.get("volumeMounts", [])
    if missing := {mount["name"] for mount in mounts} - set(volumes):
        yield f"no volumes {sorted(missing)}"
    if len({mount["mountPath"] for mount in mounts}) < len(mounts):
        yield "a path is mounted twice"
    if environment.get("RAY_AUTH_MODE") != "token":
        yield "RAY_AUTH_MODE is not the cluster's"
    if "RAY_enable_autoscaler_v2" in environment:
        yield "autoscalerOptions.version says which autoscaler"
    if not 30 < grace_s > float(environment.get("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", 30)):
        yield "pods are killed before they are drained"
    if any(word in name for name, value in environment.items() if value for word in ("SECRET", "KEY", "TOKEN")):
        yield "a secret in the manifest"
    if container["resources"]["requests"] != container["resources"]["limits"]:
        yield "limits that are not requested"


def _queued(document: dict[str, Any]) -> Iterator[str]:
    """Kueue's webhooks for both kinds."""
    spec = document["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    if not spec.get("suspend"):
        yield "Kueue starts what is suspended"
    if document["kind"] == "RayJob" and not spec.get("shutdownAfterJobFinishes"):
        yield "Kueue needs shutdownAfterJobFinishes"
    if cluster.get("enableInTreeAutoscaling"):
        yield "Kueue takes no cluster that grows"
    if len(cluster["workerGroupSpecs"]) > 7:
        yield "Kueue takes at most 8 pod sets"
    if any(group["groupName"] == "head" for group in cluster["workerGroupSpecs"]):
        yield "Kueue calls the head's pod set head"


def _labels(labels: dict[str, str]) -> Iterator[str]:
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
            yield f"{key}: {value} is no label"
