"""How long the stages of a worker are busy: reading, decoding, the device, writing."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

READING, DECODING, DEVICE = "reading", "decoding", "device"
ACTIVE = "active"
"""Time in which a worker has at least one unit: what the busy time of its device is a share of."""


class StageMeter:
    """Busy seconds of the stages of one worker, added up over its threads. Methods may be called in any thread.

    Args:
        clock: seconds, of any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._busy: defaultdict[str, float] = defaultdict(float)
        self._units, self._since = 0, 0.0

    def add(self, stage: str, seconds: float) -> None:
        """Add time to a stage."""
        with self._lock:
            self._busy[stage] += seconds

    @contextmanager
    def measured(self, stage: str) -> Iterator[None]:
        """Add the time of the context to a stage."""
        started = self.clock()
        try:
            yield
        finally:
            self.add(stage, self.clock() - started)

    def waits(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Yield items, and add the time until each of them comes to a stage."""
        iterator = iter(items)
        while True:
            with self.measured(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    @contextmanager
    def unit(self) -> Iterator[None]:
        """Count the time of the context as active, once however many units the worker has."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self._pass()
            self._units += change

    def _pass(self) -> None:
        now = self.clock()
        if self._units:
            self._busy[ACTIVE] += now - self._since
        self._since = now

    def take(self) -> dict[str, float]:
        """Return the seconds by stage since the last call."""
        with self._lock:
            self._pass()
            taken, self._busy = dict(self._busy), defaultdict(float)
        return taken
