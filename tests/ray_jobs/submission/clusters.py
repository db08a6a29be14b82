"""A cluster in memory: its jobs write a given log, and connections to that log break in given ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ray_jobs.errors import JobError
from ray_jobs.submission.client import JobState, UnreachableError

HERE, ELSEWHERE = "127.0.0.1", "192.0.2.1"


@dataclass(frozen=True)
class Connection:
    """One connection to a log.

    Attributes:
        characters: of the log that it brings, from the beginning.
        ending: it breaks; or it stays, and nothing comes; or it ends as if the job had.
        piece: characters that come at once.
    """

    characters: int
    ending: Literal["break", "silence", "end"]
    piece: int = 7


@dataclass
class Cluster:
    """`Jobs` of a cluster that is not there.

    Attributes:
        text: what a job writes.
        connections: how the connections to it go, one after the other; a job is over when they are used up.
        status: of a job that is over.
        exit_code: of such a job.
        refusals: calls that fail before the cluster answers.
        nodes: IP addresses.
        jobs: what was submitted.
        sent: what came with the jobs.
        stops: whether jobs obey the signal to stop.
    """

    text: str = ""
    connections: list[Connection] = field(default_factory=lambda: [Connection(1, "end")])
    status: str = "SUCCEEDED"
    exit_code: int | None = 0
    refusals: int = 0
    nodes: tuple[str, ...] = (HERE,)
    stops: bool = True
    address: str = "http://127.0.0.1:8265"
    jobs: dict[str, JobState] = field(default_factory=dict)
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)

    def submit(self, job_id: str, command: str, environment: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        if job_id not in self.jobs:
            self.jobs[job_id] = JobState(id=job_id, status="RUNNING", metadata=metadata)
            self.sent[job_id] = dict(environment) | {"command": command}
        self._answer()  # The job is submitted, even if the answer is lost.

    def all(self) -> list[JobState]:
        self._answer()
        return list(self.jobs.values())

    def get(self, job_id: str) -> JobState:
        self._answer()
        if job_id not in self.jobs:
            raise JobError([f"no job {job_id}"])
        return self.jobs[job_id] if self.connections else self.end(job_id)

    def stop(self, job_id: str) -> None:
        if self.stops:
            self.jobs[job_id] = replace(self.jobs[job_id], status="STOPPED")

    def log(self, job_id: str) -> str:
        return self.text

    async def tail(self, job_id: str) -> AsyncIterator[str]:
        connection = self.connections.pop(0)
        text = self.text[: connection.characters]
        for start in range(0, len(text), connection.piece):
            yield text[start : start + connection.piece]
        if connection.ending == "silence":
            await asyncio.sleep(3600)
        if connection.ending == "break":
            raise UnreachableError("the connection was reset")

    def node_addresses(self) -> list[str]:
        self._answer()
        return list(self.nodes)

    def end(self, job_id: str) -> JobState:
        """End a job."""
        if not self.jobs[job_id].is_over:
            self.jobs[job_id] = replace(self.jobs[job_id], status=self.status, exit_code=self.exit_code)
        return self.jobs[job_id]

    def _answer(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise UnreachableError("No available agent to submit job, please try again later.")


def running(job_id: str = "job", **settings: Any) -> Cluster:
    """A cluster with one job."""
    return Cluster(**settings, jobs={job_id: JobState(id=job_id, status="RUNNING")})
