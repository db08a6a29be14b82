"""How long units take, and which one takes suspiciously long."""

from __future__ import annotations

from collections import deque
from statistics import median

_REMEMBERED = 501
_ENOUGH = 5
_TIMES = 3.0
_LEAST_S = 10.0


class StragglerDetector:
    """Seconds for each unit of weight, over the units that ended lately."""

    def __init__(self) -> None:
        self._paces: deque[float] = deque(maxlen=_REMEMBERED)

    def add(self, seconds: float, *, weight: int) -> None:
        """A unit of that weight took so long."""
        self._paces.append(seconds / max(1, weight))

    def is_slow(self, seconds: float, *, weight: int) -> bool:
        """Whether a unit that has run for so long takes three times what it should, and ten seconds at least.

        With fewer than five units to judge from, none is slow.
        """
        if len(self._paces) < _ENOUGH or seconds < _LEAST_S:
            return False
        return seconds > _TIMES * median(self._paces) * max(1, weight)
