"""Properties of every manifest: same bytes, no secrets, every key in it, valid for any job file."""

from __future__ import annotations

import dataclasses
import re
from contextlib import suppress
from pathlib import Path

import pytest
import tomlkit
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ray_jobs.commands.app import app
from ray_jobs.errors import JobError
from ray_jobs.job_file.deploy_section import (
    AwsSection,
    CpuWorkersSection,
    DeploySection,
    GpuWorkersSection,
    HeadSection,
    VolumeSection,
)
from ray_jobs.job_file.reading import read_job
from ray_jobs.manifest import make_manifest
from ray_jobs.manifest.kubernetes_text import kubernetes_name
from tests.ray_jobs.manifest.jobs import EVERYTHING, PLAIN, documents, write
from tests.ray_jobs.manifest.rules import DNS_1035, broken_rules
from tests.ray_jobs.manifest.schemas import schema_errors

SECTIONS = [AwsSection, CpuWorkersSection, DeploySection, GpuWorkersSection, HeadSection, VolumeSection]


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("kind", ["rayjob", "raycluster"])
def test_the_same_job_file_gives_the_same_bytes(tmp_path, kind):
    job_file, target = write(tmp_path, EVERYTHING), tmp_path / "manifest.yaml"
    first, second = run("manifest", job_file, "--kind", kind), run("manifest", job_file, "--kind", kind)
    third = run("manifest", job_file, "--kind", kind, "--output", target)
    assert (first.exit_code, second.exit_code, third.exit_code) == (0, 0, 0)
    assert first.stdout == second.stdout == target.read_text(encoding="utf-8")
    assert (third.stdout, first.stderr) == ("", "")


@pytest.mark.parametrize("kind", ["rayjob", "raycluster", "launcher"])
def test_no_secret_of_this_machine_is_in_a_manifest(tmp_path, monkeypatch, kind):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "hunter2")
    assert "hunter2" not in make_manifest(write(tmp_path, PLAIN), kind=kind)


OTHERWISE = {
    "image": '"other:1"',
    "namespace": '"vision"',
    "service_account": '"reader"',
    "secret": '"storage"',
    "queue": '"gpus"',
    "retries": 7,
    "deadline_s": 60,
    "keep_s": 7,
    "idle_s": 777,
    "drain_s": 7,
    "shared_memory_gib": 1,
    "model_cache": '"/data/hub"',
    "spot_selector": '{ pool = "spot" }',
    "head.cpus": 7,
    "head.memory_gib": 77,
    **{f"{name}.{key}": value for name in ("gpu", "cpu") for key, value in {"min": 2, "max": 7, "cpus": 5}.items()},
    **{f"{name}.memory_gib": 77 for name in ("gpu", "cpu")},
    **{f"{name}.spot": "true" for name in ("gpu", "cpu")},
    **{f"{name}.node_selector": '{ a = "b" }' for name in ("gpu", "cpu")},
    "gpu.gpus": 2,
    "aws.region": '"us-east-1"',
    "aws.ami": '"ami-00000000"',
    "aws.instance_profile": '"arn:aws:iam::000000000000:instance-profile/x"',
    **{f"aws.{key}": '"other"' for key in ("head_type", "gpu_type", "cpu_type", "ssh_user")},
    "aws.disk_gib": 77,
    "volumes": "[{ claim = 'other', path = '/data' }]",
}
"""Another value for every key of [deploy]; `image_folders` only says what may be named."""
SURROUNDED = ("deploy.cpu.max=3", "deploy.gpu.max=3", 'deploy.spot_selector={ a = "b" }')


def test_every_key_of_the_section_is_tried_below():
    keys = {f.name for f in dataclasses.fields(DeploySection)} - {"image_folders"}
    tables = {"head": HeadSection, "gpu": GpuWorkersSection, "cpu": CpuWorkersSection, "aws": AwsSection}
    nested = {f"{name}.{f.name}" for name, kind in tables.items() for f in dataclasses.fields(kind)}
    assert OTHERWISE.keys() == keys - tables.keys() | nested


@pytest.mark.parametrize("key", OTHERWISE)
def test_every_key_changes_a_manifest(tmp_path, key):
    def made(*overrides: str) -> list[object]:
        """Without the job file, in which the section is whatever it does."""
        found = documents(tmp_path, PLAIN, *overrides, kind="launcher" if key.startswith("aws.") else "rayjob")
        return [document for document in found if document.get("kind") != "ConfigMap"]

    around = [*SURROUNDED, *(["deploy.volumes=[{claim='data', path='/data'}]"] if key == "model_cache" else [])]
    if key == "spot_selector":
        around.append("deploy.gpu.spot=true")
    assert made(*around) != made(*around, f"deploy.{key}={OTHERWISE[key]}")


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_explained_where_it_is_defined(section):
    explained = {key for kind in section.__mro__ for key in re.findall(r"^ {8}(\w+): ", kind.__doc__ or "", re.M)}
    assert {f.name for f in dataclasses.fields(section)} <= explained


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("groceries", "groceries"),
        ("Groceries_2026.w47", "groceries-2026-w47"),
        ("2026", "job-2026"),
        ("-a-", "a"),
        ("épicerie", "epicerie"),
        ("雑貨", f"job-{'[0-9a-f]' * 12}"),
    ],
)
def test_names_of_jobs_become_kubernetes_names(name, made):
    assert re.fullmatch(made, kubernetes_name(name))


def test_names_without_latin_letters_stay_apart():
    assert kubernetes_name("雑貨") != kubernetes_name("家具")


job_names = st.text(st.characters(categories=["L", "N"], include_characters="-_."), min_size=1, max_size=40)
labels = st.dictionaries(
    st.sampled_from(["pool", "cloud.google.com/gke-spot", "karpenter.sh/capacity-type"]),
    st.sampled_from(["true", "1e3", "0x10", "on", "null", "2026-11-22", "", "1_000", "spot"]),
    max_size=2,
)
machines = st.fixed_dictionaries(
    {"min": st.integers(0, 2), "max": st.integers(0, 5), "cpus": st.integers(1, 9), "memory_gib": st.integers(4, 64)},
    optional={"spot": st.booleans(), "node_selector": labels},
)
sections = st.fixed_dictionaries(
    {"image": st.just("registry.example/fewshot:0.1.0"), "gpu": machines, "cpu": machines},
    optional={
        "namespace": st.sampled_from(["vision", "1e3", "on"]),
        "service_account": st.just("reader"),
        "secret": st.just("storage"),
        "queue": st.just("gpus"),
        "deadline_s": st.integers(1, 10**6),
        "drain_s": st.integers(1, 600),
        "shared_memory_gib": st.integers(1, 5),
        "spot_selector": labels,
        "volumes": st.just([{"claim": "shared", "path": "/data"}]),
    },
)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t"), max_size=30)


@settings(max_examples=80)
@given(name=job_names, deploy=sections, description=texts, gpus=st.none() | st.sampled_from([0.25, 0.4, 1.0, 3.0]))
def test_any_job_file_is_refused_or_gives_a_valid_manifest(tmp_path_factory, name, deploy, description, gpus):
    folder = tmp_path_factory.getbasetemp()
    given_keys = tomlkit.parse(PLAIN[: PLAIN.index("[deploy]")]).unwrap()
    given_keys["job"]["name"] = name
    given_keys["support"]["classes"] = [{"label": "a", "description": description}]
    given_keys["cluster"] = {} if gpus is None else {"gpus_per_worker": gpus}
    text = tomlkit.dumps(given_keys | {"deploy": deploy})
    with suppress(JobError):
        made = make_manifest(write(folder, text))
        check(made, folder)


def check(made: str, folder: Path) -> None:
    """A manifest of the job file in the folder is valid, and of that job."""
    config_map, ray_job = yaml.safe_load_all(made)
    for document in (config_map, ray_job):
        assert schema_errors(document) + broken_rules(document) == []
    assert DNS_1035.fullmatch(ray_job["metadata"]["name"])
    (folder / "mounted.toml").write_text(config_map["data"]["job.toml"], encoding="utf-8")
    assert read_job(folder / "mounted.toml") == read_job(folder / "job.toml")
    assert make_manifest(folder / "job.toml") == made
