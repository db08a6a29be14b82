"""What is sent: a job file that reads as the same job, the code if needed, and limited workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_jobs.job_file.reading import read_job
from ray_jobs.job_file.sections import ArchiveSection, ClusterSection, Job, JobSection, SupportSection
from ray_jobs.submission.payload import Payload, limit_gpus

JOB = Job(
    job=JobSection(name="a", output="s3://bucket/out"),
    archive=ArchiveSection(uri="s3://bucket/photos"),
    support=SupportSection(uri="s3://bucket/examples", shots=4),
)


def test_the_sent_job_file_reads_as_the_same_job():
    with Payload(command="classify", job=JOB).environment() as environment:
        folder = Path(environment["working_dir"])
        assert [path.name for path in folder.iterdir()] == ["job.toml"]
        assert read_job(folder / "job.toml", needs=("archive", "support")) == (JOB, [])
    assert not folder.exists()


def test_the_code_is_sent_unless_the_nodes_have_it():
    with Payload(command="classify", job=JOB, variables={"A": "b"}).environment() as environment:
        assert [Path(folder).name for folder in environment["py_modules"]] == ["cluster", "fewshot", "ray_jobs"]
        assert environment["env_vars"] == {
            "A": "b",
            "FEWSHOT_RESULT_LINE": "1",
            "RAY_JOB_STOP_SIGNAL": "SIGINT",
            "RAY_JOB_STOP_WAIT_TIME_S": "60",
        }
    with Payload(command="classify", job=JOB, sends_code=False).environment() as environment:
        assert "py_modules" not in environment


@pytest.mark.parametrize(
    ("section", "gpus", "workers", "share"),
    [
        ({}, None, None, None),
        ({}, 4, 4, 1.0),
        ({"gpus_per_worker": 0.5}, 4, 8, 0.5),
        ({"gpus_per_worker": 0.3}, 1, 3, 0.3),
        ({"gpus_per_worker": 0.1}, 0.3, 3, 0.1),
        ({"clip_workers": 2}, 4, 2, 1.0),
        ({"clip_workers": 9}, 4, 4, 1.0),
        ({"gpus_per_worker": 2}, 3, 1, 2),
        ({}, 0.5, 1, 0.5),
        ({"clip_workers": 3}, 0, 3, 0.0),
    ],
)
def test_workers_take_at_most_the_given_gpus(section, gpus, workers, share):
    job = Job(job=JOB.job, cluster=ClusterSection(**section))
    given = limit_gpus(job, gpus).cluster
    assert (given.clip_workers, given.gpus_per_worker) == (workers, share)
