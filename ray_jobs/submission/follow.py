"""Following a job's log over connections that break: every line once, in order, until the job has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from cluster import Retry
from cluster.errors import ClusterError
from ray_jobs.errors import DetachedError
from ray_jobs.submission.client import Jobs, JobState, UnreachableError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to put up with a cluster that says nothing.

    Attributes:
        silence_s: a connection on which nothing came for so many seconds is given up for another: a laptop that slept
            holds connections that nobody else knows of.
        retry: delays between attempts; `deadline_s` without any answer ends it.
    """

    silence_s: float = 60.0
    retry: Retry = field(default=Retry(first_delay_s=0.5, max_delay_s=10.0, deadline_s=300.0))


PATIENT = Patience()


def follow(jobs: Jobs, job_id: str, show: Callable[[str], object], *, patience: Patience = PATIENT) -> JobState:
    """Show the log of a job until the job is over.

    Args:
        jobs: of the cluster.
        job_id: which one.
        show: called with pieces of the log, cut anywhere; all of them together are the log.
        patience: when to connect anew, and when to give up.

    Returns:
        the last state of the job.

    Raises:
        DetachedError: on an interrupt.
        ClusterError: the cluster does not answer for too long. The job may go on.
        JobError: there is no such job.
    """
    again = f"--address {jobs.address}"
    try:
        return asyncio.run(_Follower(jobs, job_id, show, patience).run())
    except (UnreachableError, TimeoutError) as error:
        raise ClusterError(
            f"{error}. Nothing was heard for {patience.retry.deadline_s:.0f} s; {job_id} may go on: "
            f"fewshot logs {job_id} --follow {again}"
        ) from error
    except KeyboardInterrupt:
        raise DetachedError(
            f"no longer following; {job_id} goes on. To follow it: fewshot logs {job_id} --follow {again}; "
            f"to stop it: fewshot stop {job_id} {again}"
        ) from None


class _Follower:
    def __init__(self, jobs: Jobs, job_id: str, show: Callable[[str], object], patience: Patience) -> None:
        self._jobs, self._job_id, self._show, self._patience = jobs, job_id, show, patience
        self._clock = patience.retry.clock
        self._shown = 0  # Characters: every connection starts at the beginning of the log.
        self._heard = self._clock()

    async def run(self) -> JobState:
        """Connect again and again. What the last connection did not bring is fetched when the job has ended."""
        failures = 0
        while True:
            shown = self._shown
            try:
                state = await asyncio.to_thread(self._jobs.get, self._job_id)
                self._heard = self._clock()
                if state.is_over:
                    await asyncio.to_thread(self._fetch_rest)
                    return state
                await self._listen()
            except (UnreachableError, TimeoutError) as error:
                logger.info("lost the log job=%s failures=%d error=%r", self._job_id, failures, error)
                if self._clock() - self._heard > self._patience.retry.deadline_s:
                    raise
            failures = 0 if self._shown > shown else failures + 1
            if failures:
                await asyncio.sleep(self._patience.retry.delay_s(failures))

    async def _listen(self) -> None:
        """Show what is new on one connection, until it ends."""
        position = 0
        chunks = self._jobs.tail(self._job_id)
        while (chunk := await self._next(chunks)) is not None:
            self._heard = self._clock()
            position += len(chunk)
            if (new := position - self._shown) > 0:
                self._show(chunk[-new:])
                self._shown = position

    def _fetch_rest(self) -> None:
        if rest := self._jobs.log(self._job_id)[self._shown :]:
            self._show(rest)
            self._shown += len(rest)

    async def _next(self, chunks: AsyncIterator[str]) -> str | None:
        async with asyncio.timeout(self._patience.silence_s):
            return await anext(chunks, None)
