"""Manifests of schedules are valid by their schemas and rules, and run the command of the job file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from ray_jobs.errors import JobError
from ray_jobs.job_file.command_needs import ScheduledCommand, ScheduleKind
from ray_jobs.job_file.reading import read_job
from ray_jobs.manifest import make_manifest, make_schedule_manifest
from ray_jobs.manifest.cron_jobs import CronTimes
from tests.ray_jobs.manifest.jobs import EVERYTHING, PLAIN, write
from tests.ray_jobs.manifest.rules import broken_rules
from tests.ray_jobs.manifest.schemas import schema_errors
from tests.ray_jobs.manifest.test_kuberay import changed

NIGHTLY = CronTimes(schedule="0 3 * * *", time_zone="Europe/Berlin")
EVERY_MINUTE = CronTimes(schedule="* * * * *", time_zone="UTC", suspended=True)
ONE_MACHINE = ("cluster.clip_workers=2",)
QUEUED = ("deploy.queue=gpus", "deploy.gpu.spot=false", "deploy.cpu.spot=false", *ONE_MACHINE)


def documents(
    folder: Path,
    text: str,
    *overrides: str,
    kind: ScheduleKind = "raycronjob",
    command: ScheduledCommand = "retrain",
    times: CronTimes = NIGHTLY,
) -> list[dict[str, Any]]:
    """The manifest as a reader of YAML sees it."""
    return list(
        yaml.safe_load_all(make_schedule_manifest(write(folder, text), overrides, times, kind=kind, command=command))
    )


def pod_of(made: list[dict[str, Any]]) -> dict[str, Any]:
    """The spec of the pod of a CronJob."""
    return made[1]["spec"]["jobTemplate"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("kind", get_args(ScheduleKind))
@pytest.mark.parametrize("times", [NIGHTLY, EVERY_MINUTE], ids=["nightly", "every_minute"])
@pytest.mark.parametrize("text", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_a_schedule_is_valid_for_its_controller(tmp_path, kind, text, times):
    made = documents(tmp_path, text, *ONE_MACHINE[: text == EVERYTHING], kind=kind, times=times)
    assert [document["kind"] for document in made] == ["ConfigMap", {"raycronjob": "RayCronJob"}.get(kind, "CronJob")]
    for document in made:
        assert schema_errors(document) == []
        assert broken_rules(document) == []
    spec = made[1]["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["suspend"]) == (times.schedule, times.time_zone, times.suspended)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("raycronjob", "spec.concurrencyPolicy", "Forbid"),
        ("raycronjob", "spec.timezone", "UTC"),
        ("raycronjob", "spec.timeZone", ""),
        ("raycronjob", "spec.suspend", "no"),
        ("raycronjob", "spec.schedule", None),
        ("raycronjob", "spec.jobTemplate.spec", {}),
        ("raycronjob", "spec.jobTemplate.entryPoint", "python"),
        ("cronjob", "spec.concurrencyPolice", "Forbid"),
        ("cronjob", "spec.startingDeadlineSeconds", "1h"),
        ("cronjob", "spec.schedule", 3),
        ("cronjob", "spec.jobTemplate.spec.backOffLimit", 3),
        ("cronjob", "spec.jobTemplate.spec.podFailurePolicy.rules.1.onExitCodes.value", [2]),
        ("cronjob", "spec.jobTemplate.spec.template.spec.containers.0.envfrom", []),
        ("cronjob", "apiVersion", "batch/v1beta1"),
    ],
)
def test_a_typo_in_a_schedule_is_found_by_the_schema(tmp_path, kind, path, value):
    good = documents(tmp_path, PLAIN, kind=kind)[1]
    assert schema_errors(good) == []
    assert schema_errors(changed(good, path, value))


JOB = "spec.jobTemplate.spec"


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("raycronjob", "metadata.name", "g" * 37),
        ("raycronjob", "spec.schedule", "0 3 * * 7"),
        ("raycronjob", "spec.schedule", "TZ=UTC 0 3 * * *"),
        ("raycronjob", "spec.timeZone", "Europe/Berln"),
        ("raycronjob", "spec.jobTemplate.suspend", True),
        ("raycronjob", "spec.jobTemplate.submissionMode", "K8sJob"),
        ("raycronjob", "spec.jobTemplate.rayClusterSpec.authOptions.mode", "disabled"),
        ("cronjob", "metadata.name", "g" * 53),
        ("cronjob", "spec.concurrencyPolicy", "Never"),
        ("cronjob", "spec.startingDeadlineSeconds", 5),
        ("cronjob", f"{JOB}.template.spec.restartPolicy", "OnFailure"),
        ("cronjob", f"{JOB}.podFailurePolicy.rules.1.onExitCodes.containerName", "other"),
        ("cronjob", f"{JOB}.podFailurePolicy.rules.1.onExitCodes.values", [0]),
        ("cronjob", f"{JOB}.template.spec.volumes", []),
        ("cronjob", "spec.jobTemplate.metadata.labels", {"kueue.x-k8s.io/queue-name": "gpus"}),
    ],
)
def test_the_rules_find_what_the_controllers_refuse(tmp_path, kind, path, value):
    good = documents(tmp_path, PLAIN, kind=kind)[1]
    assert broken_rules(good) == []
    assert broken_rules(changed(good, path, value))


@pytest.mark.parametrize("kind", get_args(ScheduleKind))
@pytest.mark.parametrize("command", get_args(ScheduledCommand))
def test_a_schedule_runs_the_command_on_the_mounted_job_file(tmp_path, kind, command):
    made = documents(tmp_path, PLAIN, kind=kind, command=command)
    if kind == "raycronjob":
        template = made[1]["spec"]["jobTemplate"]
        words, pod = template["entrypoint"].split(), template["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    else:
        pod = pod_of(made)
        words = pod["containers"][0]["command"]
    assert words[:5] == ["python", "-m", "ray_jobs", command, "/etc/fewshot/job.toml"]
    if command != "classify":
        words, options = words[:-2], words[-2:]
        assert options == ["--by", "schedule"]
    (mount,) = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "job"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "job"]
    assert mount["mountPath"] == "/etc/fewshot"
    assert volume["configMap"]["name"] == made[0]["metadata"]["name"]
    path = tmp_path / "mounted.toml"
    path.write_text(made[0]["data"]["job.toml"], encoding="utf-8")
    job, problems = read_job(path, words[6::2])
    assert problems == []
    assert job.cluster.address == ("auto" if kind == "raycronjob" else None)
    assert (job.cluster.clip_workers, job.cluster.gpus_per_worker) == (1, 1)


def test_the_jobs_of_a_raycronjob_are_those_of_a_rayjob(tmp_path):
    path = write(tmp_path, EVERYTHING)
    ray_job = list(yaml.safe_load_all(make_manifest(path, kind="rayjob", command="classify")))[1]["spec"]
    of_cron, name = documents(tmp_path, EVERYTHING, command="classify"), "groceries-job"
    made = yaml.safe_dump(of_cron[1]["spec"]["jobTemplate"]).replace(of_cron[0]["metadata"]["name"], name)
    made = re.sub(r"(?m)^ +app.kubernetes.io/component: classify\n", "", made)
    assert yaml.safe_load(made) == ray_job


def test_a_check_of_drift_on_a_cluster_of_its_own_is_not_tried_again(tmp_path):
    """An alarm ends with a code that KubeRay has no rule for: each retry would alarm again."""
    retries = {
        command: documents(tmp_path, EVERYTHING, command=command)[1]["spec"]["jobTemplate"]["backoffLimit"]
        for command in ("retrain", "drift")
    }
    assert retries == {"retrain": 5, "drift": 0}


@pytest.mark.parametrize("kind", get_args(ScheduleKind))
def test_commands_of_a_job_replace_no_object_of_each_other(tmp_path, kind):
    names = [
        (document["kind"], document["metadata"]["name"])
        for command in get_args(ScheduledCommand)
        for document in documents(tmp_path, PLAIN, kind=kind, command=command)
    ]
    assert len(set(names)) == len(names) == 6
    made = documents(tmp_path, PLAIN, kind=kind, command="drift")[1]
    assert made["metadata"]["name"] == "groceries-drift"
    assert made["metadata"]["labels"]["app.kubernetes.io/component"] == "drift"


@pytest.mark.parametrize(("kind", "longest"), [("raycronjob", 27), ("cronjob", 43)])
def test_the_longest_names_are_valid_with_every_command(tmp_path, kind, longest):
    for command in get_args(ScheduledCommand):
        for document in documents(tmp_path, PLAIN, f"job.name={'g' * longest}", kind=kind, command=command):
            assert broken_rules(document) == []


def test_a_changed_job_file_gets_a_config_map_of_its_own(tmp_path):
    one, same, other = (
        documents(tmp_path, PLAIN, *overrides)[0]["metadata"]["name"] for overrides in ((), (), ("support.shots=4",))
    )
    assert one == same != other


def test_a_cron_job_runs_alone_on_a_machine_that_stays(tmp_path):
    made = documents(tmp_path, EVERYTHING, *ONE_MACHINE, kind="cronjob")
    spec, pod = made[1]["spec"], pod_of(made)
    job = spec["jobTemplate"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert 60 <= spec["startingDeadlineSeconds"] <= 60 * 100  # Kubernetes gives up where it missed more than 100.
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (3, 3)
    assert (job["backoffLimit"], job["activeDeadlineSeconds"]) == (5, 7200)
    assert pod["containers"][0]["resources"]["requests"] == {"cpu": "7", "memory": "28Gi", "nvidia.com/gpu": "2"}
    assert pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    assert pod["affinity"]
    assert pod["serviceAccountName"] == "reader"
    assert pod["automountServiceAccountToken"] is False
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "fewshot-storage"}}]
    assert [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]] == [
        "/dev/shm",
        "/data",
        "/photos",
        "/etc/fewshot",
    ]


def test_a_cron_job_without_gpus_takes_all_cpus_of_its_machine(tmp_path):
    made = documents(tmp_path, PLAIN, "deploy.gpu.max=0", "deploy.cpu.max=2", "clip.threads=2", kind="cronjob")
    container = pod_of(made)["containers"][0]
    assert container["command"][5:-2] == [
        "--set",
        "cluster.clip_workers=3",
        "--set",
        "cluster.cpus_per_worker=2",
        "--set",
        "cluster.gpus_per_worker=0",
    ]
    assert container["resources"]["limits"] == {"cpu": "6", "memory": "24Gi"}


def test_an_evicted_pod_is_no_failure_and_a_wrong_setup_is_not_retried(tmp_path):
    rules = documents(tmp_path, PLAIN, kind="cronjob")[1]["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "FailJob"]
    assert rules[1]["onExitCodes"]["values"] == [2, 3]


def test_jobs_of_a_cron_job_wait_in_a_queue(tmp_path):
    made = documents(tmp_path, EVERYTHING, *QUEUED, kind="cronjob")
    template = made[1]["spec"]["jobTemplate"]
    assert template["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert template["spec"]["suspend"] is True
    assert made[1]["spec"]["suspend"] is False
    assert [schema_errors(made[1]), broken_rules(made[1])] == [[], []]


@pytest.mark.parametrize(
    ("kind", "overrides", "problem"),
    [
        ("raycronjob", ("deploy.queue=gpus",), "[deploy] queue: KubeRay cannot give the jobs of a RayCronJob a queue"),
        ("raycronjob", (f"job.name={'g' * 29}",), "[job] name: expected at most 28 characters for KubeRay, got 29"),
        ("cronjob", (f"job.name={'g' * 45}",), "[job] name: expected at most 44 characters for KubeRay, got 45"),
        ("raycronjob", ("classifier.from=s3://bucket/other",), "[classifier] from: retrain trains a classifier"),
        ("raycronjob", ("deploy.image=fewshot",), "[deploy] image: 'fewshot' does not fix a version"),
        ("raycronjob", ("archive.uri=/home/me/photos",), "[archive] uri: '/home/me/photos' is a path of this machine"),
        ("cronjob", ("cluster.address=auto",), "[cluster] address: not with `--kind cronjob`"),
        (
            "cronjob",
            ("deploy.gpu.max=3", "cluster.clip_workers=3"),
            "[cluster] clip_workers: expected at most 1 with `--kind cronjob`, as fit on one machine of [deploy.gpu]",
        ),
        ("cronjob", ("deploy.gpu.max=0",), "[deploy]: no machines for workers"),
    ],
)
def test_what_cannot_run_on_a_schedule_is_refused(tmp_path, kind, overrides, problem):
    with pytest.raises(JobError) as caught:
        documents(tmp_path, PLAIN, *overrides, kind=kind)
    assert any(each.startswith(problem) for each in caught.value.problems), caught.value.problems


def test_a_stored_classifier_may_be_used_again_and_again(tmp_path):
    made = documents(tmp_path, PLAIN, "classifier.from=s3://bucket/other", command="classify")
    assert made[1]["kind"] == "RayCronJob"
