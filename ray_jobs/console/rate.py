"""How fast a stage is, and how long it will take, from the units that have ended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

IMAGES = "img"
"""Unit of the stages that count images."""
WINDOW_S = 120.0
"""Seconds over which the rate is averaged, or more where units take long, see `ROUNDS` and `UNITS`."""
ROUNDS = 4
"""Times that the longest unit fits into the window, at least."""
UNITS = 32
"""Units in the window, at least."""
MOST_UNITS = 20_000
"""Units in the window, at most."""


class _Unit(NamedTuple):
    """A unit of work that has ended.

    Attributes:
        at: when it ended, of the clock.
        weight: of it.
        seconds: that it took on its worker.
    """

    at: float
    weight: float
    seconds: float

    def work_between(self, start: float, end: float) -> float:
        """Return the work of the unit in an interval, if it was done evenly while the unit ran; `start` is excluded."""
        if self.seconds <= 0.0:
            return self.weight if start < self.at <= end else 0.0
        overlap = min(end, self.at) - max(start, self.at - self.seconds)
        return self.weight * max(0.0, overlap) / self.seconds


@dataclass(slots=True)
class Rate:
    """Work a second over the last minutes, and the time left at that rate.

    Only work of this run counts, so the estimate after a resume is as good as before. Workers that began together end
    their units together, so that work counted when units end comes in leaps, and a rate over any interval would be off
    by up to a unit of every worker. The work of a unit is therefore spread over the time that it took, and the last
    moments are left out, in which units may have run that have not ended.

    Attributes:
        clock: seconds, of any origin.
        unit: abbreviation of the unit that is counted.
    """

    clock: Callable[[], float] = time.monotonic
    unit: str = IMAGES
    _units: deque[_Unit] = field(default_factory=deque)
    _began: float | None = None
    _known: float | None = None

    def start(self) -> None:
        """Begin to measure; the time before was start-up."""
        if self._began is None:
            self._began = self.clock()

    def add(self, weight: float, seconds: float = 0.0) -> None:
        """Count a unit of work.

        Args:
            weight: of the unit.
            seconds: that it took on its worker, >= 0; 0 if that is not known.
        """
        now = self.clock()
        if self._began is None:
            self._began = now - seconds
        self._units.append(_Unit(now, weight, seconds))
        self._known = None
        while len(self._units) > UNITS and (self._is_old(self._units[0].at) or len(self._units) > MOST_UNITS):
            self._began = self._units.popleft().at

    @property
    def per_second(self) -> float | None:
        """Return units of work a second; None before any work was done."""
        if self._known is None:
            self._known = self._measured()
        return self._known

    def left(self, weight: float) -> timedelta | None:
        """Return the time for this much work, in whole seconds; None before any work was done.

        Between the ends of units it counts down, for as long as a unit takes: then it waits for one to end.
        """
        rate = self.per_second
        if not rate:
            return None
        since = min(self.clock() - self._units[-1].at, self._longest_s)
        return timedelta(seconds=round(max(0.0, weight / rate - since)))

    def _measured(self) -> float | None:
        """Return the work a second, of the time since the first unit ended if that is long enough: all workers ran."""
        if not self._units or self._began is None:
            return None
        first, last, longest = self._units[0].at, self._units[-1].at, self._longest_s
        if (end := last - longest) <= first:  # Too little to leave anything out.
            start, end = self._began, last
        else:
            start = first if end - first >= longest else self._began
        if end <= start:
            return None
        return sum(unit.work_between(start, end) for unit in self._units) / (end - start)

    @property
    def _longest_s(self) -> float:
        """Seconds that the longest unit in the window took."""
        return max(unit.seconds for unit in self._units)

    def _is_old(self, at: float) -> bool:
        return self._units[-1].at - at > max(WINDOW_S, (1 + ROUNDS) * self._units[-1].seconds)


def rate_text(per_second: float, unit: str) -> str:
    """Return a rate, with two digits where it is below one a second."""
    return f"{per_second:{'.1f' if per_second >= 1 else '.2g'}} {unit}/s"
