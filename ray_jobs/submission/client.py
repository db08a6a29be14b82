"""Ray's Jobs API as this package uses it: few calls, plain values, and errors that say whether to try again."""

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

TRANSIENT = ("No available agent", "status code 502", "status code 503", "status code 504", "WebSocket")
"""Parts of the messages of Ray's client that stand for a dashboard that is not ready or not reachable right now."""
_VERBOSE_LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers of Ray's client that report every package and every connection."""


class UnreachableError(ClusterError, ConnectionError):
    """The cluster does not respond right now; it is worth trying again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """The state of a submitted job.

    Attributes:
        id: submission ID.
        status: "PENDING", "RUNNING", "SUCCEEDED", "FAILED" or "STOPPED".
        message: Ray's message about the status.
        error_type: Ray's name for the error; None without one.
        exit_code: of the command; None if it has not ended by itself.
        started_ms: time of the submission, in milliseconds since 1970.
        ended_ms: time of the end, in milliseconds since 1970.
        metadata: see `Payload.metadata`.
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
        """Whether the status is final."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")


class Jobs(Protocol):
    """The jobs of one cluster. Methods raise `ClusterError`, or `JobError` where there is no such job."""

    address: str

    def submit(self, job_id: str, command: str, environment: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        """Start a job, unless there is one of that ID."""
        ...

    def all(self) -> list[JobState]:
        """Return the states of all submitted jobs, the latest last."""
        ...

    def get(self, job_id: str) -> JobState:
        """Return the state of a job."""
        ...

    def stop(self, job_id: str) -> None:
        """Send a job the signal to stop, without waiting."""
        ...

    def log(self, job_id: str) -> str:
        """Return the log of a job so far."""
        ...

    def tail(self, job_id: str) -> AsyncIterator[str]:
        """Yield the log of a job from its beginning, until the job or the connection ends."""
        ...

    def node_addresses(self) -> list[str]:
        """Return the IP addresses of the nodes that are alive, at least one."""
        ...


class RayJobs:
    """`Jobs` through Ray's own client.

    Args:
        address: URL of the dashboard.

    Raises:
        ClusterError: there is no response of a dashboard.
    """

    def __init__(self, address: str) -> None:
        from ray.job_submission import JobSubmissionClient

        self.address = address
        for name in _VERBOSE_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        with _translated_errors(), _address_in_environment(address):
            self._client = JobSubmissionClient(address)

    def submit(self, job_id: str, command: str, environment: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        """See `Jobs`. The driver takes none of Ray's CPUs, so it runs on the head."""
        try:
            with _translated_errors():
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
        with _translated_errors():
            found = [_state(job) for job in self._client.list_jobs() if job.submission_id is not None]
        return sorted(found, key=lambda state: state.started_ms or 0)

    def get(self, job_id: str) -> JobState:
        """See `Jobs`."""
        with _translated_errors(job_id):
            return _state(self._client.get_job_info(job_id))

    def stop(self, job_id: str) -> None:
        """See `Jobs`."""
        with _translated_errors(job_id):
            self._client.stop_job(job_id)

    def log(self, job_id: str) -> str:
        """See `Jobs`."""
        with _translated_errors(job_id):
            return str(self._client.get_job_logs(job_id))

    async def tail(self, job_id: str) -> AsyncIterator[str]:
        """See `Jobs`."""
        with _translated_errors(job_id):
            async for chunk in self._client.tail_job_logs(job_id):
                yield chunk

    def node_addresses(self) -> list[str]:
        """See `Jobs`."""
        from ray.util.state import list_nodes

        with _translated_errors(), _address_in_environment(self.address):
            found = [str(node.node_ip) for node in list_nodes(self.address) if node.state == "ALIVE"]
        if not found:
            raise UnreachableError("the cluster lists no nodes yet")
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
def _address_in_environment(address: str) -> Iterator[None]:
    """Set the address in the environment for a moment: Ray's clients prefer it to the address that they are given."""
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
def _translated_errors(job_id: str | None = None) -> Iterator[None]:
    """Turn errors of Ray's client into `JobError`, `UnreachableError` or `ClusterError`.

    The last line of a server's message is the one that says what happened.
    """
    import aiohttp
    from ray.exceptions import AuthenticationError
    from ray.util.state.exception import RayStateApiException

    try:
        yield
    except AuthenticationError as error:
        raise ClusterError(f"the token is missing, or the cluster refuses it. {ADVICE}") from error
    except (OSError, aiohttp.ClientError, RayStateApiException) as error:
        raise UnreachableError(f"the cluster does not respond: {_last_line(error)}") from error
    except RuntimeError as error:
        if job_id is not None and "status code 404" in str(error):
            raise JobError(
                [f"the cluster has no job {job_id!r}; `fewshot status --address …` lists its jobs"]
            ) from None
        kind = UnreachableError if any(part in str(error) for part in TRANSIENT) else ClusterError
        raise kind(f"the cluster refused: {_last_line(error)}") from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
