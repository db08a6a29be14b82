"""Credentials are not sent: not by their name, not under another name, not in a job file."""

from __future__ import annotations

import pytest

from ray_jobs.submission.credentials import credentials_in_job, variables_to_send

SECRET = "wJalrXUtnFEMI/K7MDENG"
ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "eu-central-1",
    "COPY": SECRET,
    "ENDPOINT": "https://me:word@s3.example",
    "SIGNED": "https://s3.example/a?X-Amz-Signature=1",
    "EMPTY": "",
}


def test_values_come_from_here_or_from_the_option():
    variables, problems = variables_to_send(["AWS_REGION", "EMPTY", "FEWSHOT_LOG=INFO", "A=b=c"], ENVIRONMENT)
    assert problems == []
    assert variables == {"AWS_REGION": "eu-central-1", "EMPTY": "", "FEWSHOT_LOG": "INFO", "A": "b=c"}


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("AWS_SECRET_ACCESS_KEY", "the name is that of a credential"),
        ("HF_TOKEN=x", "the name is that of a credential"),
        ("COPY", "the value contains a credential"),
        (f"WRAPPED=a{SECRET}b", "the value contains a credential"),
        ("ENDPOINT", "the value contains a credential"),
        ("SIGNED", "the value contains a credential"),
        ("ABSENT", "expected a variable that is set here, or NAME=VALUE"),
        ("9=x", "expected a variable"),
        ("=x", "expected a variable"),
    ],
)
def test_a_refused_variable_is_reported_without_its_value(item, problem):
    variables, problems = variables_to_send([item], ENVIRONMENT)
    assert variables == {}
    assert problem in problems[0]
    assert SECRET not in problems[0]


def test_a_credential_anywhere_in_a_job_is_found():
    job = {
        "job": {"name": "a", "output": f"s3://bucket/{SECRET}"},
        "archive": {"uri": "s3://me:word@bucket"},
        "support": {"uri": "s3://bucket", "classes": [{"label": "a"}, {"label": "b", "name": SECRET}]},
        "escalate": None,
    }
    found = [problem.partition(" ")[0] for problem in credentials_in_job(job, ENVIRONMENT)]
    assert found == ["[job].output", "[archive].uri", "[support].classes.1.name"]
    assert SECRET not in str(credentials_in_job(job, ENVIRONMENT))
