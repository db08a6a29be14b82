"""List and stop submitted jobs, and print their logs."""

from __future__ import annotations

import time
from collections.abc import Callable

from cluster import Retry
from cluster.errors import ClusterError
from ray_jobs.console.progress import Reporter
from ray_jobs.results.submitted_jobs import JobList, ListedJob, SubmittedJob
from ray_jobs.submission.client import Jobs, JobState
from ray_jobs.submission.follow import follow
from ray_jobs.submission.job_outcome import exit_code
from ray_jobs.submission.payload import STOP_WAIT_S

POLL = Retry(first_delay_s=0.5, max_delay_s=2.0, deadline_s=STOP_WAIT_S + 15.0)
"""Delays between looks at a job that is stopping, and how long to wait for it."""


def stop_job(job_id: str, jobs: Jobs, reporter: Reporter, *, poll: Retry = POLL) -> SubmittedJob:
    """Stop a job, and wait until it has stopped.

    Returns:
        the job with its status, which is that of its end if it had ended before.

    Raises:
        JobError: there is no such job.
        ClusterError: it has not stopped in time, e.g. because it has not even started.
    """
    if not jobs.get(job_id).is_over:
        jobs.stop(job_id)
        reporter.say(f"stopping {job_id}; it has {STOP_WAIT_S} s to finish what it is doing")
    state = poll.call(lambda: _final_state(jobs, job_id), is_transient=lambda error: isinstance(error, ClusterError))
    return SubmittedJob(submission=job_id, status=state.status, address=jobs.address)


def list_jobs(jobs: Jobs, job_id: str | None = None) -> JobList:
    """List the jobs of a cluster, the latest last.

    Args:
        jobs: of the cluster.
        job_id: list this one only.

    Raises:
        JobError: there is no such job.
    """
    states = jobs.all() if job_id is None else [jobs.get(job_id)]
    return JobList(address=jobs.address, jobs=tuple(_summary(state) for state in states))


def print_log(job_id: str, jobs: Jobs, show: Callable[[str], object], *, to_the_end: bool) -> int:
    """Show the log of a job.

    Args:
        job_id: the job.
        jobs: of its cluster.
        show: called with pieces of the log.
        to_the_end: follow the log until the job is over.

    Returns:
        the exit code: of the job, if it was followed and has failed; 0 otherwise.
    """
    if not to_the_end:
        show(jobs.log(job_id))
        return 0
    return exit_code(follow(jobs, job_id, show))


def _final_state(jobs: Jobs, job_id: str) -> JobState:
    """Return the state of a job that is over; raise `ClusterError` while it is not."""
    state = jobs.get(job_id)
    again = f"Look again: fewshot status {job_id} --address {jobs.address}"
    if state.status == "PENDING":
        raise ClusterError(
            f"{job_id} has not started, and Ray stops a job only after its start: it will stop then. Ray gives up a "
            f"job that cannot start after RAY_JOB_START_TIMEOUT_SECONDS (900). {again}"
        )
    if not state.is_over:
        raise ClusterError(f"{job_id} is still {state.status.lower()}. {again}")
    return state


def _summary(state: JobState) -> ListedJob:
    ended = state.ended_ms if state.ended_ms is not None else time.time() * 1000
    seconds = None if state.started_ms is None else round(max(0.0, ended - state.started_ms) / 1000, 1)
    return ListedJob(
        submission=state.id,
        status=state.status,
        seconds=seconds,
        exit_code=state.exit_code,
        message=state.message.strip().splitlines()[0] if state.message.strip() else "",
        command=state.metadata.get("command"),
        name=state.metadata.get("name"),
        output=state.metadata.get("output"),
    )
