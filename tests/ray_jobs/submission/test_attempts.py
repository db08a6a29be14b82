"""Equal jobs have equal submission IDs, and only these."""

from __future__ import annotations

import pytest

from ray_jobs.submission.client import JobState
from ray_jobs.submission.submit import attempt_id, id_prefix, latest_attempt

JOB = {"job": {"name": "groceries", "output": "s3://b/out"}, "support": {"shots": 4}, "cluster": {"clip_workers": 4}}


def test_the_cluster_section_does_not_change_the_id():
    other = JOB | {"cluster": {"clip_workers": 8, "gpus_per_worker": 0.5}}
    assert id_prefix("classify", JOB, None) == id_prefix("classify", other, None)


@pytest.mark.parametrize(
    ("command", "job", "key"),
    [
        ("evaluate", JOB, None),
        ("classify", JOB | {"support": {"shots": 8}}, None),
        ("classify", JOB, "2026-11-22"),
        ("classify", JOB, ""),
    ],
)
def test_command_job_and_key_change_the_id(command, job, key):
    assert id_prefix(command, job, key) != id_prefix("classify", JOB, None)


def test_any_name_gives_an_id_for_urls_and_file_names():
    job = JOB | {"job": {"name": "früchte.2026" + 60 * "x", "output": "o"}}
    base = id_prefix("classify", job, None)
    assert base.isascii()
    assert base.startswith("fewshot-classify-frchte2026xxx")
    assert len(base) < 80


def test_the_latest_attempt_has_the_highest_number():
    ids = ["x-a2", "x-a10", "x-a9", "xy-a99", "x-a11-a", "x"]
    jobs = [JobState(id=name, status="FAILED") for name in ids]
    number, latest = latest_attempt("x", jobs)
    assert (number, latest) == (10, jobs[1])
    assert attempt_id("x", number + 1) == "x-a11"
    assert latest_attempt("y", jobs) == (0, None)
