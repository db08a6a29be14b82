"""Submit a job to a cluster and wait for its result.

The submission ID is made from what the job does, so that the same work is never submitted twice at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from cluster import Retry, fingerprint
from ray_jobs.console.json_result import LogReader
from ray_jobs.console.progress import Reporter
from ray_jobs.errors import JobError
from ray_jobs.job_file.reading import resolved
from ray_jobs.results.json_format import JsonObject
from ray_jobs.results.submitted_jobs import SubmittedJob
from ray_jobs.submission.client import Jobs, JobState, UnreachableError
from ray_jobs.submission.follow import follow
from ray_jobs.submission.job_outcome import failure_of
from ray_jobs.submission.local_paths import are_local, local_path_problems
from ray_jobs.submission.payload import Payload

T = TypeVar("T")

_NAME_CHARACTERS = 40
"""Of a job's name in its submission ID."""
STARTING = Retry(first_delay_s=1.0, max_delay_s=5.0, deadline_s=60.0)
"""Patience with a cluster that has just started: it accepts jobs some time after its dashboard responds."""


def submit_job(
    payload: Payload,
    jobs: Jobs,
    reporter: Reporter,
    *,
    shared_paths: bool = False,
    wait: bool = True,
    retry: Retry = STARTING,
) -> SubmittedJob | JsonObject:
    """Submit a job to a cluster, unless it is running there, and follow it.

    Args:
        payload: the job.
        jobs: of the cluster.
        reporter: for messages and for the log of the job.
        shared_paths: every node has the same files at the local paths.
        wait: follow the job to its end.
        retry: patience with a cluster that does not accept jobs yet.

    Returns:
        the job's own result with its ID as `submission` if it was followed, otherwise the job and its status.

    Raises:
        JobError: the job names local paths that the cluster cannot read, or itself ended with exit code 2.
        ClusterError: the job failed, or was stopped, or the cluster does not respond.
        DetachedError: on an interrupt; the job goes on.
    """
    problems = [] if shared_paths else local_path_problems(payload.job, payload.command)
    if problems and not are_local(_call(retry, jobs.node_addresses)):
        raise JobError(problems)
    with reporter.waiting(f"submitting the job to {jobs.address}"):
        job_id = _start(payload, jobs, reporter, retry)
    if not wait:
        return SubmittedJob(submission=job_id, status=jobs.get(job_id).status, address=jobs.address)
    log = LogReader(lambda line: reporter.console.file.write(line))
    state = follow(jobs, job_id, log.feed)
    log.close()
    if log.result is not None and state.status != "STOPPED":
        return log.result | {"submission": job_id}
    raise failure_of(state, jobs.address)


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


def _start(payload: Payload, jobs: Jobs, reporter: Reporter, retry: Retry) -> str:
    """Submit the job unless an attempt at it is not over yet; return the ID of the attempt."""
    prefix = id_prefix(payload.command, resolved(payload.job), payload.key)
    number, latest = latest_attempt(prefix, _call(retry, jobs.all))
    if latest is not None and not latest.is_over:
        reporter.say(f"{latest.id} is {latest.status.lower()} already; nothing was submitted")
        return latest.id
    job_id = attempt_id(prefix, number + 1)
    with payload.environment() as environment:
        _call(retry, lambda: jobs.submit(job_id, payload.entrypoint, environment, payload.metadata))
    reporter.say(f"submitted {job_id} to {jobs.address}")
    return job_id


def _call(retry: Retry, action: Callable[[], T]) -> T:
    """Call again while a cluster starts. The ID of a job is ours, so repeating a submission starts nothing twice."""
    return retry.call(action, is_transient=lambda error: isinstance(error, UnreachableError))
