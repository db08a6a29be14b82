"""Submission IDs, made from what a job does, so that the same work is never submitted twice at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from cluster import fingerprint
from ray_jobs.submission.client import JobState

_NAME_CHARACTERS = 40


def id_prefix(command: str, job: Mapping[str, Any], key: str | None) -> str:
    """Return the part of submission IDs that all attempts at a job share.

    Args:
        command: "classify" or "evaluate".
        job: see `resolved`. Section [cluster] does not count: the results are the same.
        key: text that distinguishes submissions of the same job, e.g. a date; None for none.
    """
    content = {name: section for name, section in job.items() if name != "cluster"}
    name = re.sub(r"[^A-Za-z0-9_-]", "", job["job"]["name"])[:_NAME_CHARACTERS]
    return f"fewshot-{command}-{name}-{fingerprint([command, content, key])[:12]}"


def attempt_id(prefix: str, number: int) -> str:
    """Return the submission ID of an attempt, counted from 1."""
    return f"{prefix}-a{number}"


def latest_attempt(prefix: str, jobs: Iterable[JobState]) -> tuple[int, JobState | None]:
    """Return number and state of the latest attempt among the jobs of a cluster; 0 and None if there is none."""
    pattern = re.compile(rf"{re.escape(prefix)}-a(\d+)")
    found = {int(match[1]): job for job in jobs if (match := pattern.fullmatch(job.id))}
    return max(found.items(), default=(0, None), key=lambda item: item[0])
