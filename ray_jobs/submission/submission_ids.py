"""What a submission is called: the name follows from what is to be done, so that it is never done twice at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from cluster import fingerprint
from ray_jobs.submission.client import JobState

_NAME_CHARACTERS = 40


def submission_base(command: str, job: Mapping[str, Any], key: str | None) -> str:
    """The name of what a job does, whichever attempt it is.

    Args:
        command: "classify" or "evaluate".
        job: as `resolved` returns it. How the work is spread ([cluster]) does not count: the results are the same.
        key: tells submissions apart that would be the same otherwise, e.g. the night they are for; None for none.
    """
    content = {name: section for name, section in job.items() if name != "cluster"}
    name = re.sub(r"[^A-Za-z0-9_-]", "", job["job"]["name"])[:_NAME_CHARACTERS]
    return f"fewshot-{command}-{name}-{fingerprint([command, content, key])[:12]}"


def attempt(base: str, number: int) -> str:
    """The submission id of an attempt, counted from 1."""
    return f"{base}-a{number}"


def latest_attempt(base: str, jobs: Iterable[JobState]) -> tuple[int, JobState | None]:
    """The latest attempt among the jobs of a cluster: its number and state, 0 and None if there is none."""
    pattern = re.compile(rf"{re.escape(base)}-a(\d+)")
    found = {int(match[1]): job for job in jobs if (match := pattern.fullmatch(job.id))}
    return max(found.items(), default=(0, None), key=lambda item: item[0])
