"""A worker's memory of what it read last, bounded in bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RecentlyUsed(Generic[K, V]):
    """Values by key, the least recently used dropped first. Safe for the threads of a worker, one a unit.

    Values that are in use elsewhere live on when they are dropped, so memory may exceed the limit by those of the units
    that run.

    Args:
        limit_bytes: of all values; the last value stays even if it is larger.
        size: number of bytes of a value.

    Attributes:
        found: number of values that were asked for and were there.
        made: number of values that were not.
        bytes: of the values that are kept.
    """

    def __init__(self, limit_bytes: int, size: Callable[[V], int]) -> None:
        self.found = self.made = self.bytes = 0
        self._limit, self._size = limit_bytes, size
        self._values: dict[K, tuple[V, int]] = {}
        self._lock = threading.Lock()

    def get(self, keys: Sequence[K], make: Callable[[list[K]], Sequence[V]]) -> list[V]:
        """Return the values of some keys, in their order.

        Args:
            keys: they may repeat.
            make: makes the values that are missing, all together.
        """
        values = self._find(keys)
        if missing := [key for key in dict.fromkeys(keys) if key not in values]:
            values |= dict(zip(missing, make(missing), strict=True))
        self._keep(values, len(missing))
        return [values[key] for key in keys]

    def clear(self) -> None:
        """Drop all values."""
        with self._lock:
            self._values.clear()
            self.bytes = 0

    def _find(self, keys: Sequence[K]) -> dict[K, V]:
        with self._lock:
            return {key: self._values[key][0] for key in keys if key in self._values}

    def _keep(self, values: dict[K, V], made: int) -> None:
        with self._lock:
            self.found += len(values) - made
            self.made += made
            for key, value in values.items():
                kept = self._values.pop(key, None)
                if kept is None:
                    kept = value, self._size(value)
                    self.bytes += kept[1]
                self._values[key] = kept
            while self.bytes > self._limit and len(self._values) > 1:
                _, size = self._values.pop(next(iter(self._values)))
                self.bytes -= size
