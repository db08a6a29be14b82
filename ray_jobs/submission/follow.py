"""Follow the log of a job over connections that break: every line once, in order, until the job has ended."""

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
class FollowTimeouts:
    """When to reconnect to a cluster, and when to give up.

    Attributes:
        silence_s: seconds without data after which a connection is replaced: after a laptop slept, its connections
            exist on its own side alone.
        retry: delays between connections; after `deadline_s` without any response the cluster is given up.
    """

    silence_s: float = 60.0
    retry: Retry = field(default=Retry(first_delay_s=0.5, max_delay_s=10.0, deadline_s=300.0))


DEFAULT_TIMEOUTS = FollowTimeouts()


def follow(
    jobs: Jobs, job_id: str, show: Callable[[str], object], *, timeouts: FollowTimeouts = DEFAULT_TIMEOUTS
) -> JobState:
    """Show the log of a job until the job is over.

    Args:
        jobs: of the cluster.
        job_id: the job.
        show: called with pieces of the log, cut anywhere; all of them together are the log.
        timeouts: when to reconnect, and when to give up.

    Returns:
        the last state of the job.

    Raises:
        DetachedError: on an interrupt; the job goes on.
        ClusterError: the cluster does not respond for too long; the job may go on.
        JobError: there is no such job.
    """
    address = f"--address {jobs.address}"
    try:
        return asyncio.run(_Follower(jobs, job_id, show, timeouts).run())
    except (UnreachableError, TimeoutError) as error:
        raise ClusterError(
            f"{error}. No response for {timeouts.retry.deadline_s:.0f} s; {job_id} may go on. To follow it again: "
            f"fewshot logs {job_id} --follow {address}"
        ) from error
    except KeyboardInterrupt:
        raise DetachedError(
            f"no longer following; {job_id} goes on. To follow it again: fewshot logs {job_id} --follow {address}; "
            f"to stop it: fewshot stop {job_id} {address}"
        ) from None


class _Follower:
    def __init__(self, jobs: Jobs, job_id: str, show: Callable[[str], object], timeouts: FollowTimeouts) -> None:
        self._jobs, self._job_id, self._show, self._timeouts = jobs, job_id, show, timeouts
        self._clock = timeouts.retry.clock
        self._shown = 0  # Characters: every connection starts at the beginning of the log.
        self._last_response = self._clock()

    async def run(self) -> JobState:
        """Connect again and again; fetch what the last connection did not bring when the job has ended."""
        failures = 0
        while True:
            shown = self._shown
            try:
                state = await asyncio.to_thread(self._jobs.get, self._job_id)
                self._last_response = self._clock()
                if state.is_over:
                    await asyncio.to_thread(self._fetch_rest)
                    return state
                await self._show_new()
            except (UnreachableError, TimeoutError) as error:
                logger.info("lost the log job=%s failures=%d error=%r", self._job_id, failures, error)
                if self._clock() - self._last_response > self._timeouts.retry.deadline_s:
                    raise
            failures = 0 if self._shown > shown else failures + 1
            if failures:
                await asyncio.sleep(self._timeouts.retry.delay_s(failures))

    async def _show_new(self) -> None:
        """Show the new part of the log on one connection, until that ends."""
        position = 0
        chunks = self._jobs.tail(self._job_id)
        while (chunk := await self._next(chunks)) is not None:
            self._last_response = self._clock()
            position += len(chunk)
            if (new := position - self._shown) > 0:
                self._show(chunk[-new:])
                self._shown = position

    def _fetch_rest(self) -> None:
        if rest := self._jobs.log(self._job_id)[self._shown :]:
            self._show(rest)
            self._shown += len(rest)

    async def _next(self, chunks: AsyncIterator[str]) -> str | None:
        async with asyncio.timeout(self._timeouts.silence_s):
            return await anext(chunks, None)
