"""Local paths are told from URLs and names of models, and refused for a cluster elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_jobs.job_file.command_needs import NEEDS
from ray_jobs.job_file.sections import ArchiveSection, ClipSection, EvaluateSection, Job, JobSection, SupportSection
from ray_jobs.submission.local_paths import are_local, local_path_problems, local_paths, with_absolute_paths
from tests.ray_jobs.submission.clusters import ELSEWHERE, HERE


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    return Job(
        job=JobSection(name="a", output="runs/a"),
        archive=ArchiveSection(uri="s3://bucket/photos", labels="file:///data/truth.csv"),
        support=SupportSection(uri="~/examples"),
        clip=ClipSection(model="weights"),
    )


def test_local_paths_are_made_absolute_and_urls_stay(job, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    found = with_absolute_paths(job)
    assert found.job.output == str(tmp_path / "runs/a")
    assert (found.archive.uri, found.archive.labels) == ("s3://bucket/photos", "/data/truth.csv")
    assert found.support.uri == "/home/me/examples"
    assert found.clip.model == str(tmp_path / "weights")
    assert with_absolute_paths(found) == found


def test_validation_images_and_prompts_are_paths_of_the_commands_that_read_them(job, tmp_path):
    support = replace(job.support, validation="more", prompts="cupl.json")
    job = replace(job, support=support, evaluate=EvaluateSection(splits="splits.json", methods=("zero_shot",)))
    absolute = with_absolute_paths(job).support
    assert (absolute.validation, absolute.prompts) == (str(tmp_path / "more"), str(tmp_path / "cupl.json"))
    read = {command: {key for section, key in local_paths(job, command) if section == "support"} for command in NEEDS}
    assert read == {"classify": {"uri", "validation", "prompts"}, "evaluate": {"prompts"}}


def test_names_of_models_are_no_paths(job):
    assert ("escalate", "model") not in local_paths(job)
    assert ("diffusion", "model") not in local_paths(job)  # "embedded"


def test_every_path_that_the_cluster_cannot_read_is_reported(job):
    job = replace(job, evaluate=EvaluateSection(splits="splits.json", methods=("zero_shot",)))
    problems = local_path_problems(job, "classify")
    assert [problem.partition(": ")[0] for problem in problems] == [
        "[job] output",
        "[archive] labels",
        "[support] uri",
        "[clip] model",
    ]
    assert all("s3://…" in problem and "--shared-paths" in problem for problem in problems)
    messages = [problem.partition(": ")[0] for problem in local_path_problems(job, "evaluate")]
    assert messages == ["[job] output", "[evaluate] splits", "[clip] model"]


def test_a_cluster_is_local_if_all_its_nodes_are():
    assert are_local([HERE])
    assert not are_local([HERE, ELSEWHERE])
    assert not are_local([])
