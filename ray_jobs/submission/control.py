"""Jobs that were submitted: listed, looked at, stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cluster import Retry
from cluster.errors import ClusterError
from ray_jobs.console.progress import Reporter
from ray_jobs.submission.client import Jobs, JobState
from ray_jobs.submission.follow import follow
from ray_jobs.submission.job_outcome import exit_code
from ray_jobs.submission.payload import STOP_WAIT_S

POLL = Retry(first_delay_s=0.5, max_delay_s=2.0, deadline_s=STOP_WAIT_S + 15.0)
"""How often, and for how long, to ask whether a job has stopped."""


def stop_job(job_id: str, jobs: Jobs, reporter: Reporter, *, poll: Retry = POLL) -> dict[str, Any]:
    """Stop a job, and wait until it has stopped.

    Returns:
        its id and status, which is that of a job that had ended already.

    Raises:
        JobError: there is no such job.
        ClusterError: it is not over after the time that it is given, e.g. because it has not even started.
    """
    if not jobs.get(job_id).is_over:
        jobs.stop(job_id)
        reporter.say(f"{job_id} was told to stop; it has {STOP_WAIT_S} s to come to an orderly end")
    state = poll.call(lambda: _ended(jobs, job_id), is_transient=lambda error: isinstance(error, ClusterError))
    return {"submission": job_id, "status": state.status, "address": jobs.address}


def list_jobs(jobs: Jobs, job_id: str | None = None) -> dict[str, Any]:
    """The jobs of a cluster, the latest last, or one of them.

    Raises:
        JobError: there is no such job.
    """
    states = jobs.all() if job_id is None else [jobs.get(job_id)]
    return {"address": jobs.address, "jobs": [_told(state) for state in states]}


def print_log(job_id: str, jobs: Jobs, show: Callable[[str], object], *, to_the_end: bool) -> int:
    """Show what a job has written.

    Args:
        job_id: the job.
        jobs: of its cluster.
        show: called with pieces of it.
        to_the_end: until the job is over.

    Returns:
        the exit code: of the job, if it was followed and has failed; 0 otherwise.
    """
    if not to_the_end:
        show(jobs.log(job_id))
        return 0
    return exit_code(follow(jobs, job_id, show))


def _ended(jobs: Jobs, job_id: str) -> JobState:
    state = jobs.get(job_id)
    again = f"Ask again: fewshot status {job_id} --address {jobs.address}"
    if state.status == "PENDING":
        raise ClusterError(
            f"{job_id} has not started, and Ray does not stop what has not: it will when it starts. A job that cannot "
            f"start is given up after RAY_JOB_START_TIMEOUT_SECONDS (900). {again}"
        )
    if not state.is_over:
        raise ClusterError(f"{job_id} is still {state.status.lower()}. {again}")
    return state


def _told(state: JobState) -> dict[str, Any]:
    ended = state.ended_ms if state.ended_ms is not None else time.time() * 1000
    seconds = None if state.started_ms is None else round(max(0.0, ended - state.started_ms) / 1000, 1)
    return {
        "submission": state.id,
        "status": state.status,
        "seconds": seconds,
        "exit_code": state.exit_code,
        "message": state.message.strip().splitlines()[0] if state.message.strip() else "",
        **{name: state.metadata.get(name) for name in ("command", "name", "output")},
    }
