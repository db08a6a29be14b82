"""Jobs on a real cluster with a token: one is submitted twice, stopped, submitted again and followed to its end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from ray_jobs.errors import JobError
from ray_jobs.submission.address import fetch_ray_version
from tests.ray_jobs.place import Outcome, Place, put, wait_until
from tests.ray_jobs.submission.head import Head, head
from tests.ray_jobs.submission.shell import Answer, Shell, shell
from tests.sources import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SECRETS = {"AWS_SECRET_ACCESS_KEY": "planted-in-a-pod-1f0c", "STORE_PASSWORD": "planted-on-a-laptop-77aa"}


@dataclass(frozen=True)
class Cluster:
    """The cluster, a process for commands, and a job."""

    head: Head
    fewshot: Shell
    place: Place

    def fetch(self, path: str) -> str:
        """The answer of the dashboard."""
        request = Request(
            self.head.address + path, headers={"Authorization": f"Bearer {self.head.client['RAY_AUTH_TOKEN']}"}
        )
        with urlopen(request, timeout=60) as answer:
            return answer.read().decode()


def contents(folder: Path) -> dict[Path, bytes]:
    """The files below a folder that are still there when they are read."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink():
                found[path] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Iterator[Cluster]:
    """A head with a secret in its environment, a client with another, and a job."""
    place = Place(tmp_path_factory.mktemp("place"), tiny_clip).fill()
    place.write_job(cluster={"mode": "auto"})
    pod, laptop = ({name: value} for name, value in SECRETS.items())
    with head(**pod) as started:
        environment = started.client | {"RAY_ADDRESS": started.address, "RAY_USAGE_STATS_ENABLED": "0"}
        with shell(environment | laptop) as fewshot:
            yield Cluster(started, fewshot, place)


@pytest.fixture(scope="module")
def stopped(cluster: Cluster) -> list[Answer]:
    """The job submitted twice, stopped while it waits for a worker that no node has room for, and its log."""
    words = ("submit", "classify", cluster.place.job, "--set", "cluster.cpus_per_worker=3", "--no-wait")
    first, second = (cluster.fewshot(*words) for _ in range(2))
    assert first.code == 0, first.stderr
    assert wait_until(lambda: any(cluster.place.output.glob("runs/*/plan.json")), timeout_s=300)
    job = first.result["submission"]
    return [first, second, cluster.fewshot("stop", job), cluster.fewshot("logs", job)]


@pytest.fixture(scope="module")
def finished(cluster: Cluster, stopped: list[Answer]) -> Answer:
    """The job submitted once more, and waited for."""
    return cluster.fewshot("submit", "classify", cluster.place.job, "--env", "SPEED=high", "--gpus", 0)


def test_submitting_a_running_job_again_submits_nothing(stopped):
    first, second, _, _ = stopped
    assert second.result["submission"] == first.result["submission"]
    assert "nothing was submitted" in second.stderr


def test_a_stopped_job_ends_by_itself(stopped):
    _, _, stop, log = stopped
    assert (stop.code, stop.result["status"]) == (0, "STOPPED")
    assert "error: interrupted; finished work is kept" in log.stdout


def test_submitting_again_resumes_and_gives_the_bytes_of_one_process(cluster, finished):
    assert finished.code == 0, finished.stderr
    assert finished.result["submission"].endswith("-a2")
    assert "embedding: 2 workers on Ray" in finished.stderr
    alone = cluster.place.classify("cluster.mode=process", f"job.output={cluster.place.folder / 'alone'}")
    assert Outcome(finished.code, finished.result, "").bytes == alone.bytes
    assert finished.result["ok"] == alone.result["ok"] == 18


def test_a_job_submitted_with_rays_command_finds_everything_done(cluster, finished):
    folder = cluster.place.folder / "sent"
    put(folder / "job.toml", cluster.place.job.read_bytes())
    setting = f'{{"env_vars": {{"PYTHONPATH": "{ROOT}"}}}}'  # As if the project were installed on the node.
    submit = f"job submit --submission-id by-hand --working-dir {folder} --runtime-env-json".split()
    command = ["python", "-m", "ray_jobs", "classify", "job.toml", "--set", "cluster.address=auto"]
    run = subprocess.run(
        [Path(sys.executable).with_name("ray"), *submit, setting, "--", *command],
        env=os.environ | cluster.head.client | {"RAY_ADDRESS": cluster.head.address},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert '"did": "nothing"' in run.stdout
    followed = cluster.fewshot("logs", "by-hand", "--follow")
    assert (followed.code, '"did": "nothing"' in followed.stdout) == (0, True)


def test_jobs_are_listed_as_they_ended(cluster, stopped, finished):
    ids = [stopped[0].result["submission"], finished.result["submission"]]
    jobs = cluster.fewshot("status", "--address", cluster.head.address).result["jobs"]
    listed = {job["submission"]: job for job in jobs}
    assert [listed[name]["status"] for name in ids] == ["STOPPED", "SUCCEEDED"]
    assert {listed[name]["output"] for name in ids} == {str(cluster.place.output)}


def test_no_secret_and_no_token_is_found_anywhere(cluster, finished):
    jobs = cluster.fetch("/api/jobs/")
    assert '"SPEED": "high"' in jobs  # Jobs are listed as they were sent.
    files = contents(cluster.head.folder) | contents(cluster.place.folder)
    assert {path.name for path in files} >= {f"job-driver-{finished.result['submission']}.log", "metrics.json"}
    for secret in (*SECRETS.values(), cluster.head.client["RAY_AUTH_TOKEN"]):
        assert secret not in jobs
        assert [path for path, content in files.items() if secret.encode() in content] == []


def test_a_missing_token_is_reported(cluster):
    with pytest.raises(JobError, match="requires a token"):
        fetch_ray_version(cluster.head.address, {})
