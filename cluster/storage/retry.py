"""Retries: exponential back-off with jitter, until a deadline."""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cluster.secrets import redacted
from cluster.storage.read_ahead import pause

T = TypeVar("T")

logger = logging.getLogger(__name__)

_JITTER = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The delays between attempts and the deadline for the last one.

    Attributes:
        first_delay_s: seconds after the first failure, > 0; doubled with every further one.
        max_delay_s: the longest delay between two attempts, in seconds.
        deadline_s: no attempt starts later than this many seconds after the first one.
        throttled_deadline_s: the same while a server limits the rate of requests, as it will recover. None is
            `deadline_s`.
        clock: a monotonic clock in seconds.
        sleep: waits for a number of seconds.
    """

    first_delay_s: float = 0.2
    max_delay_s: float = 15.0
    deadline_s: float = 120.0
    throttled_deadline_s: float | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = pause

    def delay_s(self, failures: int) -> float:
        """Return the delay after that many failures in a row (>= 1), in seconds; its last quarter is drawn at random.

        The jitter spreads the attempts of many workers that failed together.
        """
        longest = min(self.max_delay_s, self.first_delay_s * 2.0 ** min(failures - 1, 60))
        return longest * (0.75 + 0.25 * _JITTER.random())

    def call(
        self,
        action: Callable[[], T],
        *,
        is_transient: Callable[[Exception], bool],
        is_throttled: Callable[[Exception], bool] = lambda _: False,
    ) -> T:
        """Call `action` until it returns, raises an error that is not transient, or the deadline has passed.

        Args:
            action: makes an attempt.
            is_transient: whether another attempt may succeed after this error.
            is_throttled: whether the error says that a server limits the rate of requests.

        Raises:
            Exception: whatever the last call of `action` raised.
        """
        start = self.clock()
        for failures in itertools.count(1):
            try:
                return action()
            except Exception as error:
                delay_s = self.delay_s(failures)
                deadline_s = self.deadline_s
                if self.throttled_deadline_s is not None and is_throttled(error):
                    deadline_s = self.throttled_deadline_s
                if not is_transient(error) or self.clock() + delay_s > start + deadline_s:
                    raise
                logger.info("retrying failures=%d delay_s=%.2f error=%s", failures, delay_s, redacted(repr(error)))
                self.sleep(delay_s)
        raise AssertionError("unreachable: the loop only ends by returning or raising")
