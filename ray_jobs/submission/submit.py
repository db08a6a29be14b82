"""Sending a job to a cluster, once however often it is asked for, and waiting for its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from cluster import Retry
from ray_jobs.console.json_result import LogReader
from ray_jobs.console.progress import Reporter
from ray_jobs.errors import JobError
from ray_jobs.job_file.reading import resolved
from ray_jobs.submission.client import Jobs, UnreachableError
from ray_jobs.submission.follow import follow
from ray_jobs.submission.job_outcome import failure
from ray_jobs.submission.local_paths import are_here, out_of_sight
from ray_jobs.submission.payload import Order
from ray_jobs.submission.submission_ids import attempt, latest_attempt, submission_base

T = TypeVar("T")

READY = Retry(first_delay_s=1.0, max_delay_s=5.0, deadline_s=60.0)
"""How long a cluster that has just started may take to accept jobs after its dashboard answers."""


def submit_job(
    order: Order,
    jobs: Jobs,
    reporter: Reporter,
    *,
    shared_paths: bool = False,
    wait: bool = True,
    ready: Retry = READY,
) -> dict[str, Any]:
    """Send a job to a cluster, unless it is running there, and follow it.

    Args:
        order: the job.
        jobs: of the cluster.
        reporter: where to tell how it is going; the job's log goes there, too.
        shared_paths: local paths mean the same on every node.
        wait: follow it to its end.
        ready: how long the cluster may take until it accepts jobs.

    Returns:
        the job's own result if it was waited for, else what it is called and how it stands; `submission` is its id.

    Raises:
        JobError: the job names places that the cluster does not see, or itself ended with exit code 2.
        ClusterError: it failed, or was stopped, or the cluster does not answer.
        DetachedError: on an interrupt; the job goes on.
    """
    hidden = [] if shared_paths else out_of_sight(order.job, order.command)
    if hidden and not are_here(_call(ready, jobs.node_addresses)):
        raise JobError(hidden)
    job_id = _start(order, jobs, reporter, ready)
    if not wait:
        return {"submission": job_id, "status": jobs.get(job_id).status, "address": jobs.address}
    log = LogReader(lambda line: reporter.console.file.write(line))
    state = follow(jobs, job_id, log.feed)
    log.close()
    if log.result is not None and state.status != "STOPPED":
        return log.result | {"submission": job_id}
    raise failure(state, jobs.address)


def _start(order: Order, jobs: Jobs, reporter: Reporter, ready: Retry) -> str:
    """Submit the job unless an attempt at it is under way; the id of the attempt."""
    base = submission_base(order.command, resolved(order.job), order.key)
    number, latest = latest_attempt(base, _call(ready, jobs.all))
    if latest is not None and not latest.is_over:
        reporter.say(f"{latest.id} is {latest.status.lower()} already; nothing was submitted")
        return latest.id
    job_id = attempt(base, number + 1)
    with order.environment() as environment:
        _call(ready, lambda: jobs.submit(job_id, order.entrypoint, environment, order.metadata))
    reporter.say(f"submitted {job_id} to {jobs.address}")
    return job_id


def _call(ready: Retry, action: Callable[[], T]) -> T:
    """Call with patience for a cluster that is starting. The id of a job is ours, so a second submission is none."""
    return ready.call(action, is_transient=lambda error: isinstance(error, UnreachableError))
