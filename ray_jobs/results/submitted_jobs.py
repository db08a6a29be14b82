"""Jobs on a Ray cluster, as `fewshot submit`, `stop` and `status --address` print them."""

from __future__ import annotations

from dataclasses import dataclass

from ray_jobs.results.json_format import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedJob(JsonValue):
    """A job that was submitted, and not followed to its end.

    Attributes:
        submission: its ID.
        status: Ray's word for its state.
        address: URL of the cluster's dashboard.
    """

    submission: str
    status: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedJob(JsonValue):
    """A job in the list of a cluster.

    Attributes:
        submission: its ID.
        status: Ray's word for its state.
        seconds: since it started, or until it ended; None before it has started.
        exit_code: of its driver; None while it runs.
        message: first line of Ray's message about it; "" if there is none.
        command: of `fewshot`; None for a job of another program.
        name: of the job; None likewise.
        output: URL of the output; None likewise.
    """

    submission: str
    status: str
    seconds: float | None
    exit_code: int | None
    message: str
    command: str | None
    name: str | None
    output: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobList(JsonValue):
    """The jobs of a cluster.

    Attributes:
        address: URL of the cluster's dashboard.
        jobs: the latest last.
    """

    address: str
    jobs: tuple[ListedJob, ...]
