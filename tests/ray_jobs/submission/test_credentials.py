"""What looks like a secret does not travel: not under its name, not under another, not in a job file."""

from __future__ import annotations

import pytest

from ray_jobs.submission.credentials import credentials_in_job, settings_to_send

SECRET = "wJalrXUtnFEMI/K7MDENG"
ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "eu-central-1",
    "COPY": SECRET,
    "ENDPOINT": "https://me:word@s3.example",
    "SIGNED": "https://s3.example/a?X-Amz-Signature=1",
    "EMPTY": "",
}


def test_settings_are_taken_from_here_or_from_the_command():
    settings, problems = settings_to_send(["AWS_REGION", "EMPTY", "FEWSHOT_LOG=INFO", "A=b=c"], ENVIRONMENT)
    assert problems == []
    assert settings == {"AWS_REGION": "eu-central-1", "EMPTY": "", "FEWSHOT_LOG": "INFO", "A": "b=c"}


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("AWS_SECRET_ACCESS_KEY", "looks like a credential"),
        ("HF_TOKEN=x", "looks like a credential"),
        ("COPY", "its value holds a credential"),
        (f"WRAPPED=a{SECRET}b", "its value holds a credential"),
        ("ENDPOINT", "its value holds a credential"),
        ("SIGNED", "its value holds a credential"),
        ("ABSENT", "expected a variable that is set here, or NAME=VALUE"),
        ("9=x", "expected a variable"),
        ("=x", "expected a variable"),
    ],
)
def test_a_setting_that_cannot_be_sent_is_told_without_its_value(item, problem):
    settings, problems = settings_to_send([item], ENVIRONMENT)
    assert settings == {}
    assert problem in problems[0]
    assert SECRET not in problems[0]


def test_a_credential_anywhere_in_a_job_is_found_and_its_key_is_told():
    job = {
        "job": {"name": "a", "output": f"s3://bucket/{SECRET}"},
        "archive": {"uri": "s3://me:word@bucket"},
        "support": {"uri": "s3://bucket", "classes": [{"label": "a"}, {"label": "b", "name": SECRET}]},
        "escalate": None,
    }
    found = [problem.partition(" ")[0] for problem in credentials_in_job(job, ENVIRONMENT)]
    assert found == ["[job].output", "[archive].uri", "[support].classes.1.name"]
    assert SECRET not in str(credentials_in_job(job, ENVIRONMENT))
