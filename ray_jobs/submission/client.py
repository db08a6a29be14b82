"""Ray's Jobs API as this package needs it: few calls, plain values, and errors that say whether to try again."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from cluster.errors import ClusterError
from ray_jobs.errors import JobError
from ray_jobs.submission.address import ADVICE, VARIABLES

PASSING = ("No available agent", "status code 502", "status code 503", "status code 504", "WebSocket")
"""In errors that Ray's client raises: the dashboard is there, but not ready, or the way to it is not."""
_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers of Ray's client that tell of every package and every connection."""


class UnreachableError(ClusterError, ConnectionError):
    """The cluster does not answer. It may in a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """What the cluster says of a job.

    Attributes:
        id: its submission id.
        status: "PENDING", "RUNNING", "SUCCEEDED", "FAILED" or "STOPPED".
        message: what Ray says about it.
        error_type: Ray's name for what went wrong; None if nothing did.
        exit_code: of the command; None if it did not end by itself.
        started_ms: when it was submitted, in milliseconds since 1970.
        ended_ms: when it came to its end.
        metadata: what `Order` said of it.
    """

    id: str
    status: str
    message: str = ""
    error_type: str | None = None
    exit_code: int | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")


class Jobs(Protocol):
    """The jobs of one cluster. Whatever it raises is a `ClusterError`, or `JobError` where there is no such job."""

    address: str

    def submit(self, job_id: str, command: str, environment: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        """Start a job, unless there is one of that id."""
        ...

    def all(self) -> list[JobState]:
        """Every job that was submitted, the latest last."""
        ...

    def get(self, job_id: str) -> JobState:
        """One of them."""
        ...

    def stop(self, job_id: str) -> None:
        """Ask a job to stop. Does not wait."""
        ...

    def log(self, job_id: str) -> str:
        """All that a job has written so far."""
        ...

    def tail(self, job_id: str) -> AsyncIterator[str]:
        """What a job has written, from the beginning, and goes on to write until it ends or the connection does."""
        ...

    def node_addresses(self) -> list[str]:
        """IP addresses of the nodes that are alive, at least one."""
        ...


class RayJobs:
    """`Jobs` by Ray's own client.

    Args:
        address: URL of the dashboard.

    Raises:
        ClusterError: it does not answer as a dashboard does.
    """

    def __init__(self, address: str) -> None:
        from ray.job_submission import JobSubmissionClient

        self.address = address
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        with _translated(), _only(address):
            self._client = JobSubmissionClient(address)

    def submit(self, job_id: str, command: str, environment: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        """See `Jobs`. The driver takes no CPU of Ray's and so runs on the head."""
        try:
            with _translated():
                self._client.submit_job(
                    entrypoint=command,
                    submission_id=job_id,
                    runtime_env=dict(environment),
                    metadata=dict(metadata),
                    entrypoint_num_cpus=0,
                )
        except ClusterError as error:
            if "already exists" not in str(error):
                raise

    def all(self) -> list[JobState]:
        """See `Jobs`."""
        with _translated():
            found = [_state(job) for job in self._client.list_jobs() if job.submission_id is not None]
        return sorted(found, key=lambda state: state.started_ms or 0)

    def get(self, job_id: str) -> JobState:
        """See `Jobs`."""
        with _translated(job_id):
            return _state(self._client.get_job_info(job_id))

    def stop(self, job_id: str) -> None:
        """See `Jobs`."""
        with _translated(job_id):
            self._client.stop_job(job_id)

    def log(self, job_id: str) -> str:
        """See `Jobs`."""
        with _translated(job_id):
            return str(self._client.get_job_logs(job_id))

    async def tail(self, job_id: str) -> AsyncIterator[str]:
        """See `Jobs`."""
        with _translated(job_id):
            async for chunk in self._client.tail_job_logs(job_id):
                yield chunk

    def node_addresses(self) -> list[str]:
        """See `Jobs`."""
        from ray.util.state import list_nodes

        with _translated(), _only(self.address):
            found = [str(node.node_ip) for node in list_nodes(self.address) if node.state == "ALIVE"]
        if not found:
            raise UnreachableError("the cluster does not know its nodes yet")
        return found


def _state(info: Any) -> JobState:
    return JobState(
        id=info.submission_id,
        status=str(info.status),
        message=info.message or "",
        error_type=info.error_type,
        exit_code=info.driver_exit_code,
        started_ms=info.start_time,
        ended_ms=info.end_time,
        metadata=info.metadata or {},
    )


@contextmanager
def _only(address: str) -> Iterator[None]:
    """Ray's clients prefer the environment to the address that they are given: let it say the same for a moment."""
    before = os.environ.get(VARIABLES[0])
    os.environ[VARIABLES[0]] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLES[0]]
        else:
            os.environ[VARIABLES[0]] = before


@contextmanager
def _translated(job_id: str | None = None) -> Iterator[None]:
    """Errors of Ray's client in our words; the last line of what the server says is the one that tells."""
    import aiohttp
    from ray.exceptions import AuthenticationError
    from ray.util.state.exception import RayStateApiException

    try:
        yield
    except AuthenticationError as error:
        raise ClusterError(f"the cluster refuses the token, or wants one. {ADVICE}") from error
    except (OSError, aiohttp.ClientError, RayStateApiException) as error:
        raise UnreachableError(f"the cluster does not answer: {_last_line(error)}") from error
    except RuntimeError as error:
        if job_id is not None and "status code 404" in str(error):
            raise JobError([f"the cluster knows no job {job_id!r}; `fewshot status --address …` lists them"]) from None
        kind = UnreachableError if any(sign in str(error) for sign in PASSING) else ClusterError
        raise kind(f"the cluster refused: {_last_line(error)}") from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
