"""Manifests for KubeRay are valid by its schema and its operator, and equal to the job file."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from ray_jobs.job_file.reading import read_job
from tests.ray_jobs.manifest.jobs import EVERYTHING, PLAIN, documents, write
from tests.ray_jobs.manifest.rules import broken_rules
from tests.ray_jobs.manifest.schemas import schema_errors

QUEUED = ("deploy.queue=gpus", "deploy.gpu.spot=false", "deploy.cpu.spot=false")


def cluster_of(made: list[dict[str, Any]]) -> dict[str, Any]:
    return made[-1]["spec"].get("rayClusterSpec", made[-1]["spec"])


def pods_of(made: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The specs of the pods by group; the head's is "head"."""
    cluster = cluster_of(made)
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    return {name: group["template"]["spec"] for name, group in {"head": cluster["headGroupSpec"], **groups}.items()}


@pytest.mark.parametrize("kind", ["rayjob", "raycluster"])
@pytest.mark.parametrize("text", [PLAIN, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("overrides", [(), QUEUED], ids=["at_once", "queued"])
def test_a_manifest_is_valid_for_kuberay(tmp_path, kind, text, overrides):
    made = documents(tmp_path, text, *overrides, kind=kind)
    assert [document["kind"] for document in made] == {"rayjob": ["ConfigMap", "RayJob"], "raycluster": ["RayCluster"]}[
        kind
    ]
    for document in made:
        assert schema_errors(document) == []
        assert broken_rules(document) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.entryPoint", "python"),
        ("spec.backoffLimit", "2"),
        ("spec.rayClusterSpec.workerGroupSpecs.0.maxReplica", 2),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.envfrom", []),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.terminationGracePeriod", 60),
        ("spec.rayClusterSpec.autoscalerOptions.version", "v3"),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("spec.rayClusterSpec.headGroupSpec.template.spec.volumes.0.emptyDir.size", "1Gi"),
        ("metadata.label", {}),
    ],
)
def test_a_typo_in_a_manifest_is_found_by_the_schema(tmp_path, path, value):
    assert schema_errors(changed(documents(tmp_path, EVERYTHING)[1], path, value))


HEAD = "spec.rayClusterSpec.headGroupSpec"
FIRST = "spec.rayClusterSpec.workerGroupSpecs.0"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "g" * 48),
        ("metadata.name", "1groceries"),
        ("metadata.labels.queue", "two words"),
        ("spec.submissionMode", "K8sJob"),
        ("spec.shutdownAfterJobFinishes", False),
        ("spec.activeDeadlineSeconds", 0),
        ("spec.submitterPodTemplate.spec.restartPolicy", "Always"),
        ("spec.submitterPodTemplate.spec.containers.0.command", ["sleep"]),
        ("spec.rayClusterSpec.rayVersion", "2.51.0"),
        ("spec.rayClusterSpec.authOptions", {"mode": "token", "enableK8sTokenAuth": True}),
        ("spec.rayClusterSpec.authOptions.mode", "disabled"),
        ("spec.rayClusterSpec.enableInTreeAutoscaling", True),
        ("spec.suspend", False),
        (f"{HEAD}.rayStartParams.num-cpus", "2"),
        (f"{FIRST}.groupName", "head"),
        (f"{FIRST}.minReplicas", 99),
        (f"{FIRST}.priority", 1),
        (f"{FIRST}.rayStartParams.labels", "a=b"),
        (f"{FIRST}.template.spec.containers", []),
        (f"{FIRST}.template.spec.volumes", []),
        (f"{FIRST}.template.spec.terminationGracePeriodSeconds", 20),
        (f"{FIRST}.template.spec.containers.0.env", [{"name": "RAY_AUTH_MODE", "value": "disabled"}]),
        (f"{FIRST}.template.spec.containers.0.resources.requests", {}),
    ],
)
def test_the_rules_find_what_the_operator_refuses(tmp_path, path, value):
    good = documents(tmp_path, EVERYTHING, *QUEUED)[1]
    bad = changed(good, path, value)
    assert broken_rules(good) == []
    assert broken_rules(bad)


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one value set; the path may lead through lists."""
    made = copy.deepcopy(document)
    *parents, last = path.split(".")
    target: Any = made
    for part in parents:
        target = target[int(part) if isinstance(target, list) else part]
    target[last] = value
    return made


@pytest.mark.parametrize("text", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_the_config_map_has_the_job_with_overrides(tmp_path, text):
    overrides = ("support.shots=4", "classifier.method=ape")
    config_map, ray_job = documents(tmp_path, text, *overrides)
    job, problems = read_job(write(tmp_path, text), overrides)
    path = tmp_path / "mounted.toml"
    path.write_text(config_map["data"]["job.toml"], encoding="utf-8")
    assert read_job(path) == (job, [])
    assert problems == []
    (volume,) = [v for v in pods_of([ray_job])["head"]["volumes"] if v["name"] == "job"]
    assert volume["configMap"]["name"] == config_map["metadata"]["name"]


@pytest.mark.parametrize("command", ["classify", "evaluate"])
def test_the_entrypoint_reads_the_mounted_job_file(tmp_path, command):
    made = documents(tmp_path, EVERYTHING, command=command)
    python, flag, module, name, job_file, *settings = made[1]["spec"]["entrypoint"].split()
    (mount,) = [m for m in pods_of(made)["head"]["containers"][0]["volumeMounts"] if m["name"] == "job"]
    assert (python, flag, module, name) == ("python", "-m", "ray_jobs", command)
    assert job_file == f"{mount['mountPath']}/job.toml"
    assert settings == ["--set", "cluster.address=auto"]


def test_open_workers_are_as_many_as_fit_on_gpus(tmp_path):
    made = documents(tmp_path, PLAIN, "deploy.gpu.max=3", "deploy.gpu.gpus=2")
    job_file = tmp_path / "mounted.toml"
    job_file.write_text(made[0]["data"]["job.toml"], encoding="utf-8")
    *_, settings = made[1]["spec"]["entrypoint"].partition(" --set ")
    job, problems = read_job(job_file, settings.split(" --set "))
    assert problems == []
    assert (job.cluster.address, job.cluster.clip_workers, job.cluster.gpus_per_worker) == ("auto", 6, 1.0)


def test_reserved_memory_limits_the_workers(tmp_path):
    shape = ("cluster.gpus_per_worker=0.5", "cluster.memory_per_worker_gib=13", "deploy.gpu.max=3")
    made = documents(tmp_path, PLAIN, *shape, "deploy.gpu.memory_gib=24")
    assert made[1]["spec"]["entrypoint"].endswith("--set cluster.clip_workers=3 --set cluster.cpus_per_worker=2.5")


def test_workers_on_machines_without_gpus_take_none(tmp_path):
    made = documents(tmp_path, PLAIN, "deploy.gpu.max=0", "deploy.cpu.max=2", "clip.threads=2")
    assert made[1]["spec"]["entrypoint"].endswith("--set cluster.clip_workers=6 --set cluster.gpus_per_worker=0")
    assert list(pods_of(made)) == ["head", "cpu"]


def test_spot_machines_come_first_and_others_replace_them(tmp_path):
    made = documents(tmp_path, EVERYTHING)
    groups = {group["groupName"]: group for group in cluster_of(made)["workerGroupSpecs"]}
    assert list(groups) == ["gpu", "gpu-spot", "cpu", "cpu-spot"]
    for name in ("gpu", "cpu"):
        plain, spot = groups[name], groups[f"{name}-spot"]
        assert spot["priority"] > plain.get("priority", 0)
        assert spot["maxReplicas"] == plain["maxReplicas"]
        assert (plain["labels"], spot["labels"]) == (
            {"ray.io/market-type": "on-demand"},
            {"ray.io/market-type": "spot"},
        )
        assert spot["minReplicas"] == 0


def test_only_spot_groups_are_placed_on_spot_nodes(tmp_path):
    selector = {"cloud.google.com/gke-spot": "true", "pool": "1e3"}
    for name, pod in pods_of(documents(tmp_path, EVERYTHING)).items():
        tolerated = {item["key"] for item in pod.get("tolerations", [])}
        kept_off = "affinity" in pod
        assert (selector.items() <= pod.get("nodeSelector", {}).items()) is name.endswith("-spot")
        assert (selector.keys() <= tolerated) is name.endswith("-spot")
        assert kept_off is not name.endswith("-spot")


def test_pods_get_secrets_by_name_and_only_the_head_has_a_token(tmp_path):
    for name, pod in pods_of(documents(tmp_path, EVERYTHING)).items():
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "fewshot-storage"}}]
        assert pod["serviceAccountName"] == "reader"
        assert pod.get("automountServiceAccountToken", True) is (name == "head")
        assert pod["containers"][0]["securityContext"]["runAsNonRoot"] is True


def test_volumes_are_the_same_on_every_pod(tmp_path):
    for pod in pods_of(documents(tmp_path, EVERYTHING)).values():
        mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for path, claim, read_only in (("/data", "shared", False), ("/photos", "archive", True)):
            assert volumes[mounts[path]["name"]]["persistentVolumeClaim"]["claimName"] == claim
            assert mounts[path].get("readOnly", False) is read_only
        memory = volumes[mounts["/dev/shm"]["name"]]["emptyDir"]
        assert memory == {"medium": "Memory", "sizeLimit": "3Gi"}
        assert {"name": "HF_HOME", "value": "/data/hub"} in pod["containers"][0]["env"]


def test_a_queue_gets_all_machines_at_once(tmp_path):
    made = documents(tmp_path, EVERYTHING, *QUEUED)
    assert made[1]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert made[1]["spec"]["suspend"] is True
    replicas = {
        group["groupName"]: (group["minReplicas"], group["replicas"], group["maxReplicas"])
        for group in cluster_of(made)["workerGroupSpecs"]
    }
    assert replicas == {"gpu": (4, 4, 4), "cpu": (3, 3, 3)}


def test_the_object_store_is_smaller_than_shared_memory(tmp_path):
    cluster = cluster_of(documents(tmp_path, EVERYTHING))
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert 0 < int(group["rayStartParams"]["object-store-memory"]) < 3 * 2**30


def test_strings_that_look_like_numbers_are_quoted(tmp_path):
    """PyYAML reads `1e3` as a string; kubectl reads it as a number, and a label must be a string."""
    from ray_jobs.manifest import make_manifest

    made = make_manifest(write(tmp_path, EVERYTHING))
    assert "pool: '1e3'" in made
    assert "pool: 1e3" not in made
    assert next(yaml.safe_load_all(made))["metadata"]["name"] == "groceries-job"
