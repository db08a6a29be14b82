"""The outcome of a submitted job: its exit code, and the error where it left no result."""

from __future__ import annotations

from cluster.errors import ClusterError
from ray_jobs.errors import JobError
from ray_jobs.submission.client import JobState


def exit_code(state: JobState) -> int:
    """Return the exit code of a job that is over; 1 for one that was stopped or lost."""
    if state.status == "SUCCEEDED":
        return 0
    wrong = state.error_type == "RUNTIME_ENV_SETUP_FAILURE"
    return 2 if wrong else state.exit_code if state.exit_code in (1, 2) else 1


def failure_of(state: JobState, address: str) -> Exception:
    """Return the error for a job without a result; it ends the command with the exit code of the job.

    Args:
        state: of the job, which is over.
        address: of the cluster.
    """
    code = exit_code(state)
    if state.status == "SUCCEEDED":
        return ClusterError(f"{state.id} succeeded, but its log has no result. Read it: fewshot logs {state.id}")
    if state.status == "STOPPED":
        return ClusterError(f"{state.id} was stopped; finished work is kept, submit the job again to resume")
    if state.exit_code is not None:
        text = f"{state.id} failed on the cluster with exit code {state.exit_code}; its log says why"
    else:
        text = f"{state.id} failed on the cluster: {state.error_type}: {state.message.strip()}"
    text += f" (fewshot logs {state.id} --address {address})"
    if code == 2:
        return JobError([text])
    return ClusterError(f"{text}. Finished work is kept, submit the job again to resume")
