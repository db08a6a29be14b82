"""What is the same has the same name, and only that."""

from __future__ import annotations

import pytest

from ray_jobs.submission.client import JobState
from ray_jobs.submission.submission_ids import attempt, latest_attempt, submission_base

JOB = {"job": {"name": "groceries", "output": "s3://b/out"}, "support": {"shots": 4}, "cluster": {"clip_workers": 4}}


def test_how_the_work_is_spread_does_not_name_it():
    other = JOB | {"cluster": {"clip_workers": 8, "gpus_per_worker": 0.5}}
    assert submission_base("classify", JOB, None) == submission_base("classify", other, None)


@pytest.mark.parametrize(
    ("command", "job", "key"),
    [
        ("evaluate", JOB, None),
        ("classify", JOB | {"support": {"shots": 8}}, None),
        ("classify", JOB, "2026-11-22"),
        ("classify", JOB, ""),
    ],
)
def test_what_is_done_and_the_key_name_it(command, job, key):
    assert submission_base(command, job, key) != submission_base("classify", JOB, None)


def test_any_name_makes_an_id_that_fits_into_a_url_and_a_file_name():
    job = JOB | {"job": {"name": "früchte.2026" + 60 * "x", "output": "o"}}
    base = submission_base("classify", job, None)
    assert base.isascii()
    assert base.startswith("fewshot-classify-frchte2026xxx")
    assert len(base) < 80


def test_the_latest_attempt_is_the_one_with_the_highest_number():
    ids = ["x-a2", "x-a10", "x-a9", "xy-a99", "x-a11-a", "x"]
    jobs = [JobState(id=name, status="FAILED") for name in ids]
    number, latest = latest_attempt("x", jobs)
    assert (number, latest) == (10, jobs[1])
    assert attempt("x", number + 1) == "x-a11"
    assert latest_attempt("y", jobs) == (0, None)
