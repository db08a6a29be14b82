"""What cannot work on a cluster is told before anything is written, all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_jobs.errors import JobError
from ray_jobs.manifest import make_manifest
from tests.ray_jobs.manifest.jobs import EVERYTHING, PLAIN, write
from tests.ray_jobs.place import fewshot


def problems(
    folder: Path, text: str, *overrides: str, kind: str = "rayjob", command: str = "classify"
) -> tuple[str, ...]:
    try:
        make_manifest(write(folder, text), overrides, kind=kind, command=command)  # type: ignore[arg-type]
    except JobError as error:
        return error.problems
    return ()


@pytest.mark.parametrize(
    ("override", "messages"),
    [
        ("job.name=" + "g" * 48, "[job] name: "),
        ("job.output=runs/groceries", "[job] output: 'runs/groceries' cannot be written by every pod"),
        ("job.output=/mnt/runs", "[job] output: '/mnt/runs' cannot be written"),
        ("job.output=file:///mnt/runs", "[job] output: 'file:///mnt/runs' cannot be written"),
        ("job.output=memory://runs", "[job] output: 'memory://runs' cannot be written"),
        ("archive.uri=photos/", "[archive] uri: 'photos/' is on this machine only"),
        ("archive.labels=truth.csv", "[archive] labels: 'truth.csv' is on this machine only"),
        ("support.uri=../examples.csv", "[support] uri: '../examples.csv' is on this machine only"),
        ("clip.model=/models/clip", "[clip] model: '/models/clip' is on this machine only"),
        ("clip.model=models/clip", "[clip] model: 'models/clip' is on this machine only"),
        ("escalate.model=./sd", "[escalate] model: './sd' is on this machine only"),
        ("archive.uri=https://me:hunter2@host/photos", "[archive] uri: a URL with a password in it"),
        ("support.uri=https://host/examples.csv?X-Amz-Signature=hunter2", "[support] uri: the URL carries credentials"),
        ("clip.model=ViT-B32", "Did you mean 'ViT-B-32'?"),
        ("classifier.method=appe", "Did you mean 'ape'?"),
        ("classifier.hyperparameters.alhpa=1", "alhpa"),
        ("escalate.hyperparameters.rnak=1", "rnak"),
        ("evaluate.methods=['appe']", "[evaluate] needs splits"),
        ("cluster.gpus_per_worker=2", "a worker of 1 CPUs and 2 GPUs fits on no machine; [deploy] has machines of 6"),
        ("cluster.gpus_per_worker=1.5", "Ray gives whole GPUs or a part of one, got 1.5"),
        ("cluster.cpus_per_worker=7", "a worker of 7 CPUs and 1 GPUs fits on no machine"),
        ("cluster.memory_per_worker_gib=25", "a worker of 1 CPUs and 1 GPUs with 25 GiB fits on no machine"),
        ("storage.ca_file=our-ca.pem", "[storage] ca_file: 'our-ca.pem' is on this machine only"),
        ("cluster.clip_workers=2", "[cluster] clip_workers: 2 are more than the 1"),
        ("deploy.gpu.min=2", "[deploy.gpu] min: 2 machines are more than max = 1"),
        ("deploy.cpu.min=1", "[deploy.cpu] min: 1 machines are more than max = 0"),
        ("deploy.gpu.max=0", "[deploy] has no machine for workers"),
        ("deploy.gpu.spot=true", "[deploy.gpu] spot: Kubernetes knows spot machines by labels only"),
        ("deploy.shared_memory_gib=5", "5 GiB leave nothing of the 8 GiB of [deploy.head] memory_gib"),
        ("deploy.image=fewshot", "'fewshot' is another image tomorrow"),
        ("deploy.image=localhost:5000/fewshot", "is another image tomorrow"),
        ("deploy.image=fewshot:latest", "'fewshot:latest' is another image tomorrow"),
        ("deploy.model_cache=/cache", "[deploy] model_cache: '/cache' lies in none of [[deploy.volumes]]"),
        ("deploy.volumes=[{claim='a', path='/home'}]", "[[deploy.volumes]] path: '/home' would hide what pods need"),
        ("deploy.volumes=[{claim='a', path='/a'}, {claim='b', path='/a'}]", "'/a' is mounted twice"),
        ("deploy.volumes=[{claim='a', path='data'}]", "[deploy] volumes.0.path: "),
        ("deploy.namespace=Vision", "[deploy] namespace: "),
        ("deploy.secret=two words", "[deploy] secret: "),
        ("deploy.retries=-1", "[deploy] retries: "),
        ("deploy.gpu.max=many", "[deploy] gpu.max: "),
        ("deploy.aws.region=Ireland", "[deploy] aws.region: "),
    ],
)
def test_one_mistake_is_told_once(tmp_path, monkeypatch, override, messages):
    monkeypatch.chdir(tmp_path)
    found = problems(tmp_path, PLAIN, override)
    assert [line for line in found if messages in line], found
    assert len(found) == 1, found
    assert "hunter2" not in "".join(found)


@pytest.mark.parametrize(
    ("override", "messages"),
    [
        ("job.output=/photos/runs", "[job] output: '/photos/runs' cannot be written"),
        ("job.output=/data/../runs", "[job] output: '/data/../runs' cannot be written"),
        ("archive.uri=/database", "[archive] uri: '/database' is on this machine only"),
        ("deploy.model_cache=/photos/hub", "[deploy] model_cache: "),
        ("deploy.queue=gpus", "[deploy.gpu] spot: with deploy.queue"),
    ],
)
def test_a_shared_folder_counts_only_as_what_it_is(tmp_path, override, messages):
    (found,) = problems(tmp_path, EVERYTHING, override)
    assert messages in found


@pytest.mark.parametrize(
    ("kind", "command", "messages"),
    [
        ("rayjob", "classify", ["[archive] uri", "[support] uri"]),
        ("rayjob", "evaluate", ["[evaluate] splits"]),
        ("raycluster", "classify", ["[archive] uri", "[evaluate] splits", "[support] uri"]),
    ],
)
def test_only_places_that_the_command_looks_at_have_to_be_seen(tmp_path, kind, command, messages):
    local = ("archive.uri=photos/", "support.uri=examples.csv", "evaluate.splits=splits.json")
    found = problems(tmp_path, PLAIN, *local, kind=kind, command=command)
    assert sorted(line.partition(": ")[0] for line in found) == messages
    assert all("is on this machine only" in line for line in found)


def test_machines_in_the_cloud_have_no_claims_and_no_secrets(tmp_path):
    found = problems(tmp_path, EVERYTHING, kind="launcher")
    for messages in ("[[deploy.volumes]]: ", "[deploy] secret: "):
        assert [line for line in found if line.startswith(messages)], found
    (missing,) = problems(tmp_path, PLAIN[: PLAIN.index("[deploy.aws]")], kind="launcher")
    assert missing.startswith("[deploy.aws] is missing")


def test_a_cluster_alone_needs_no_archive(tmp_path):
    text = '[job]\nname = "shared"\noutput = "s3://bucket/runs"\n[deploy]\nimage = "fewshot:1"\n'
    assert problems(tmp_path, text, kind="raycluster") == ()
    assert len(problems(tmp_path, text, kind="rayjob")) == 2


def test_a_job_file_that_no_config_map_holds_is_refused(tmp_path):
    classes = "".join(
        f'[[support.classes]]\nlabel = "class {i}"\ndescription = "{"long " * 80}"\n' for i in range(2270)
    )
    (found,) = problems(tmp_path, PLAIN + classes)
    assert "a ConfigMap holds 1000000" in found


def test_all_mistakes_are_told_at_once_and_nothing_is_written(tmp_path):
    job_file = write(tmp_path, PLAIN)
    outcome = fewshot(
        "manifest",
        job_file,
        "--output",
        tmp_path / "manifest.yaml",
        *("--set", "job.output=runs"),
        *("--set", "archive.uri=photos"),
        *("--set", "deploy.gpu.spot=true"),
        *("--set", "deploy.gpu.mx=3"),
        *("--set", "deploy.image=fewshot"),
    )
    assert (outcome.code, outcome.result) == (2, None)
    assert len(outcome.messages.splitlines()) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["job.toml"]


def test_a_job_file_without_the_section_is_told_what_it_needs(tmp_path):
    (found,) = problems(tmp_path, PLAIN[: PLAIN.index("[deploy]")])
    assert "section [deploy] is missing. It needs: image" in found
