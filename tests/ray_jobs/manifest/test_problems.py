"""Problems on a cluster are reported before a manifest is written, all at once."""

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
        ("archive.uri=photos/", "[archive] uri: 'photos/' is a path of this machine"),
        ("archive.labels=truth.csv", "[archive] labels: 'truth.csv' is a path of this machine"),
        ("support.uri=../examples.csv", "[support] uri: '../examples.csv' is a path of this machine"),
        ("clip.model=/models/clip", "[clip] model: '/models/clip' is a path of this machine"),
        ("clip.model=models/clip", "[clip] model: 'models/clip' is a path of this machine"),
        ("clip.model=timm:/models/tower", "[clip] model: '/models/tower' is a path of this machine"),
        ("clip.model=timm:models/tower", "[clip] model: 'models/tower' is a path of this machine"),
        ("clip.beside.model=/models/clip", "[clip] beside.model: '/models/clip' is a path of this machine"),
        ("clip.beside.model=timm:models/tower", "[clip] beside.model: 'models/tower' is a path of this machine"),
        ("clip.beside={model='ViT-B32', pretrained='openai'}", "Did you mean 'ViT-B-32'?"),
        ("escalate.model=./sd", "[escalate] model: './sd' is a path of this machine"),
        ("archive.uri=https://me:hunter2@host/photos", "[archive] uri: a URL with a password in it"),
        (
            "support.uri=https://host/examples.csv?X-Amz-Signature=hunter2",
            "[support] uri: the URL contains credentials",
        ),
        ("clip.model=ViT-B32", "Did you mean 'ViT-B-32'?"),
        ("classifier.method=appe", "Did you mean 'ape'?"),
        ("classifier.hyperparameters.alhpa=1", "alhpa"),
        ("escalate.hyperparameters.rnak=1", "rnak"),
        ("evaluate.methods=['appe']", "[evaluate] splits: missing; expected a string"),
        ("cluster.gpus_per_worker=2", "a worker with 5 CPUs and 2 GPUs fits on no machine; [deploy] has machines of 6"),
        ("cluster.gpus_per_worker=1.5", "expected whole GPUs or a fraction below 1, got 1.5"),
        ("cluster.cpus_per_worker=7", "a worker with 7 CPUs and 1 GPUs fits on no machine"),
        ("cluster.memory_per_worker_gib=25", "a worker with 5 CPUs and 1 GPUs with 25 GiB fits on no machine"),
        ("storage.ca_file=our-ca.pem", "[storage] ca_file: 'our-ca.pem' is a path of this machine"),
        (
            "cluster.clip_workers=2",
            "[cluster] clip_workers: expected at most 1, as fit on the machines of [deploy], got 2",
        ),
        ("deploy.gpu.min=2", "[deploy.gpu] min: expected at most max = 1, got 2"),
        ("deploy.cpu.min=1", "[deploy.cpu] min: expected at most max = 0, got 1"),
        ("deploy.gpu.max=0", "[deploy]: no machines for workers"),
        ("deploy.gpu.spot=true", "[deploy.gpu] spot: the labels of spot machines are missing"),
        ("deploy.shared_memory_gib=5", "expected at most half of the 8 GiB of [deploy.head] memory_gib, got 5"),
        ("deploy.image=fewshot", "'fewshot' does not fix a version"),
        ("deploy.image=localhost:5000/fewshot", "does not fix a version"),
        ("deploy.image=fewshot:latest", "'fewshot:latest' does not fix a version"),
        ("deploy.model_cache=/cache", "[deploy] model_cache: '/cache' is in no writable volume"),
        (
            "deploy.volumes=[{claim='a', path='/home'}]",
            "[[deploy.volumes]] path: '/home' would hide files that pods need",
        ),
        ("deploy.volumes=[{claim='a', path='/a'}, {claim='b', path='/a'}]", "'/a' is mounted twice"),
        ("deploy.volumes=[{claim='a', path='data'}]", "[deploy] volumes.0.path: "),
        ("deploy.namespace=Vision", "[deploy] namespace: "),
        ("deploy.secret=two words", "[deploy] secret: "),
        ("deploy.retries=-1", "[deploy] retries: "),
        ("deploy.gpu.max=many", "[deploy.gpu] max: "),
        ("deploy.aws.region=Ireland", "[deploy.aws] region: "),
    ],
)
def test_one_mistake_is_reported_once(tmp_path, monkeypatch, override, messages):
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
        ("archive.uri=/database", "[archive] uri: '/database' is a path of this machine"),
        ("deploy.model_cache=/photos/hub", "[deploy] model_cache: "),
        ("deploy.queue=gpus", "[deploy.gpu] spot: not with deploy.queue"),
    ],
)
def test_paths_beside_shared_folders_are_refused(tmp_path, override, messages):
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
def test_only_paths_of_the_command_are_checked(tmp_path, kind, command, messages):
    local = ("archive.uri=photos/", "support.uri=examples.csv", "evaluate.splits=splits.json")
    found = problems(tmp_path, PLAIN, *local, kind=kind, command=command)
    assert sorted(line.partition(": ")[0] for line in found) == messages
    assert all("is a path of this machine" in line for line in found)


def test_cloud_machines_have_no_volumes_and_no_secrets(tmp_path):
    found = problems(tmp_path, EVERYTHING, kind="launcher")
    for messages in ("[[deploy.volumes]]: ", "[deploy] secret: "):
        assert [line for line in found if line.startswith(messages)], found
    (missing,) = problems(tmp_path, PLAIN[: PLAIN.index("[deploy.aws]")], kind="launcher")
    assert missing.startswith("[deploy.aws]: missing section")


def test_a_cluster_alone_needs_no_archive(tmp_path):
    text = '[job]\nname = "shared"\noutput = "s3://bucket/runs"\n[deploy]\nimage = "fewshot:1"\n'
    assert problems(tmp_path, text, kind="raycluster") == ()
    assert len(problems(tmp_path, text, kind="rayjob")) == 2


def test_a_job_file_too_large_for_a_config_map_is_refused(tmp_path):
    classes = "".join(
        f'[[support.classes]]\nlabel = "class {i}"\ndescription = "{"long " * 80}"\n' for i in range(2270)
    )
    (found,) = problems(tmp_path, PLAIN + classes)
    assert "more than the 1000000 of a ConfigMap" in found


def test_all_mistakes_are_reported_at_once(tmp_path):
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


def test_a_missing_deploy_section_is_reported_with_its_keys(tmp_path):
    (found,) = problems(tmp_path, PLAIN[: PLAIN.index("[deploy]")])
    assert "[deploy]: missing section; it needs image" in found
