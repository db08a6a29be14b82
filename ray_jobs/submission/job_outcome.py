"""What became of a job, for whoever waited for it."""

from __future__ import annotations

from cluster.errors import ClusterError
from ray_jobs.errors import JobError
from ray_jobs.submission.client import JobState


def exit_code(state: JobState) -> int:
    """The job's own exit code where there is one; 1 for a job that was stopped or lost."""
    if state.status == "SUCCEEDED":
        return 0
    wrong = state.error_type == "RUNTIME_ENV_SETUP_FAILURE"
    return 2 if wrong else state.exit_code if state.exit_code in (1, 2) else 1


def failure(state: JobState, address: str) -> Exception:
    """Why a job has no result, as the error that ends the command with its exit code."""
    code = exit_code(state)
    if state.status == "SUCCEEDED":
        return ClusterError(f"{state.id} succeeded, but its log does not hold its result: fewshot logs {state.id}")
    if state.status == "STOPPED":
        return ClusterError(f"{state.id} was stopped; what is done is kept, submit it again to resume")
    if state.exit_code is not None:
        text = f"{state.id} failed on the cluster with exit code {state.exit_code}; its log says why"
    else:
        text = f"{state.id} failed on the cluster: {state.error_type}: {state.message.strip()}"
    told = f"{text} (fewshot logs {state.id} --address {address})"
    return JobError([told]) if code == 2 else ClusterError(f"{told}. What is done is kept, submit it again to resume")
