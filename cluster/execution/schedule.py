"""Assign units to workers, and decide which units a lost worker makes suspects. No Ray, no clock, no threads."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Set
from dataclasses import dataclass
from statistics import median
from typing import Any, Generic, TypeVar

from cluster.execution.step import Unit

W = TypeVar("W", bound=Hashable)

LOOKAHEAD = 64
"""Units that wait for a worker that has had what they need, beyond those that workers have."""

_MAX_DURATIONS = 501
_MIN_DURATIONS = 5
_SLOW_FACTOR = 3.0
_MIN_SLOW_S = 10.0


@dataclass(eq=False, slots=True)
class InFlightUnit:
    """A unit between its submission and its end.

    Attributes:
        unit: the unit.
        losses: workers that died with it and without another known reason.
        prepared: the result of a helper's preparation; None without one.
        started: when a worker got it, in seconds of the caller's clock.
        is_over: whether it has ended. A duplicate of it may still run.
    """

    unit: Unit
    losses: int = 0
    prepared: Any = None
    started: float = 0.0
    is_over: bool = False


class Schedule(Generic[W]):
    """Units in flight on workers of type `W`.

    The death of a worker does not show which of its units caused it, or whether any did. So its units wait until the
    caller has attributed the loss. If the worker died with its node, they are cleared, and the loss does not count.
    Otherwise all of them become suspects, and a suspect runs alone on a worker: if that one dies as well, this unit was
    the cause. Suspects that finish are cleared, and no unit is given up on suspicion.

    Args:
        overlap: units that a worker has at a time.
        max_attempts: workers that may die with a unit before it is given up.
        unprepared: how many of a worker's units may be unprepared. With helpers, one: the other slots are for prepared
            units, or those would wait until the worker has done the same work more slowly.

    Attributes:
        unfinished: number of units that were added and have not ended.
    """

    def __init__(self, *, overlap: int, max_attempts: int, unprepared: int | None = None) -> None:
        self._overlap = overlap
        self._max_attempts = max_attempts
        self._unprepared = overlap if unprepared is None else unprepared
        self._waiting: deque[InFlightUnit] = deque()
        self._prepared: deque[InFlightUnit] = deque()
        self._suspects: deque[InFlightUnit] = deque()
        self._assigned: dict[W, list[InFlightUnit]] = {}
        self._had: dict[W, set[Hashable]] = {}
        self._draining: set[W] = set()
        self.unfinished = 0

    def add_unit(self, unit: Unit) -> None:
        """Add a unit to the queue."""
        self.unfinished += 1
        self._waiting.append(InFlightUnit(unit))

    def take_for_helper(self) -> InFlightUnit | None:
        """Remove the next unprepared unit from the queue, for a helper to prepare; None if the queue is empty."""
        return self._waiting.popleft() if self._waiting else None

    @property
    def num_prepared(self) -> int:
        """The number of prepared units that no worker has yet."""
        return len(self._prepared)

    def requeue(self, item: InFlightUnit) -> None:
        """Put a unit back that was taken for a helper: before all unprepared ones if the helper has prepared it."""
        (self._waiting if item.prepared is None else self._prepared).append(item)

    @property
    def is_starved(self) -> bool:
        """Whether a worker is idle and no unit is queued."""
        waiting = self._waiting or self._prepared or self._suspects
        return not waiting and any(not items for items in self._assigned.values())

    def add_worker(self, worker: W, had: set[Hashable] | None = None) -> None:
        """Add a worker that is ready for units.

        Args:
            worker: the worker.
            had: what its earlier units needed, to which the needs of its next ones are added; None for nothing.
        """
        self._assigned.setdefault(worker, [])
        self._had.setdefault(worker, set() if had is None else had)

    def assign(self) -> Iterator[tuple[W, InFlightUnit]]:
        """Assign units until no worker can take one. The caller starts each pair that is yielded."""
        while (pair := self._next_pair()) is not None:
            worker, item = pair
            self._assigned[worker].append(item)
            yield pair

    def finish(self, worker: W, item: InFlightUnit) -> bool:
        """Record the result of a worker: the unit has ended.

        Returns:
            Whether this is the first result; False if another worker finished the unit before.
        """
        self._assigned[worker].remove(item)
        is_first, item.is_over = not item.is_over, True
        self.unfinished -= is_first
        return is_first

    def duplicate(self, is_slow: Callable[[InFlightUnit], bool]) -> tuple[W, InFlightUnit] | None:
        """Assign a slow unit to a second worker while no other unit is queued. The first result counts.

        Both workers commit the same bytes. Suspects are not duplicated: they may cost one worker, not two.

        Returns:
            An idle worker and the unit; None if there is no such worker or no such unit.
        """
        idle = [worker for worker in self._assigned if not self._assigned[worker] and worker not in self._draining]
        if self._prepared or self._waiting or self._suspects or not idle:
            return None
        counts = Counter(item for items in self._assigned.values() for item in items)
        for item, count in counts.items():
            if count == 1 and not item.losses and not item.is_over and is_slow(item):
                self._assigned[idle[0]].append(item)
                return idle[0], item
        return None

    def drain_worker(self, worker: W) -> bool:
        """Assign no new units to a worker that has to stop.

        Returns:
            Whether it has no units left; it is removed then and may be stopped.
        """
        if self._assigned.get(worker):
            self._draining.add(worker)
            return False
        self._remove(worker)
        return True

    def lose_worker(self, worker: W) -> list[InFlightUnit]:
        """Remove a worker that died, and return its units, which wait for `clear` or `blame`.

        Units that have ended or that also run on another worker are not among them.
        """
        items = self._remove(worker)
        return [item for item in items if not item.is_over and not self._is_assigned(item)]

    def clear(self, lost: Iterable[InFlightUnit]) -> None:
        """Put units first in the queue whose worker died for another reason; earlier suspects still run alone."""
        for item in lost:
            queue = self._waiting if item.prepared is None else self._prepared
            (self._suspects if item.losses else queue).appendleft(item)

    def blame(self, lost: list[InFlightUnit]) -> list[InFlightUnit]:
        """Make units suspects, one of which may have killed their worker.

        Returns:
            The units to give up: at most one, which was alone on the worker and has lost `max_attempts` workers.
        """
        for item in lost:
            item.losses += 1
        given_up = lost if len(lost) == 1 and lost[0].losses >= self._max_attempts else []
        self._suspects.extend(item for item in lost if item not in given_up)
        self.unfinished -= len(given_up)
        return given_up

    def _is_assigned(self, item: InFlightUnit) -> bool:
        return any(item in items for items in self._assigned.values())

    def _remove(self, worker: W) -> list[InFlightUnit]:
        self._draining.discard(worker)
        self._had.pop(worker, None)
        return self._assigned.pop(worker, [])

    def _next_pair(self) -> tuple[W, InFlightUnit] | None:
        active = (worker for worker in self._assigned if worker not in self._draining)
        by_load = sorted(active, key=lambda worker: len(self._assigned[worker]))
        if self._suspects:
            if by_load and not self._assigned[by_load[0]]:
                return by_load[0], self._suspects.popleft()
            by_load = by_load[1:]  # The least busy worker takes nothing new, so that it becomes free for a suspect.
        for queue in (self._prepared, self._waiting):
            for worker in by_load if queue else ():
                if self._has_slot(worker, queue[0]):
                    return worker, self._take(queue, self._had[worker])
        return None

    def _take(self, queue: deque[InFlightUnit], had: set[Hashable]) -> InFlightUnit:
        """Remove a unit from a queue for a worker: the first one, if it has had nothing that the others need."""
        index = preferred((item.unit for item in queue), had) if had else 0
        item = queue[index]
        del queue[index]
        had.update(item.unit.needs)
        return item

    def _has_slot(self, worker: W, item: InFlightUnit) -> bool:
        items = self._assigned[worker]
        if len(items) >= self._overlap or any(other.losses for other in items):
            return False
        return item.prepared is not None or sum(other.prepared is None for other in items) < self._unprepared


def preferred(units: Iterable[Unit], had: Set[Hashable]) -> int:
    """Return the index of the unit of whose needs a worker has had the largest share, the first among equals.

    Args:
        units: at least one.
        had: by the worker.
    """
    shares = [sum(need in had for need in unit.needs) / max(1, len(unit.needs)) for unit in units]
    return shares.index(max(shares))


class StragglerDetector:
    """Recent durations of units, in seconds for each unit of weight, and which units are slow beside them."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=_MAX_DURATIONS)

    def add(self, seconds: float, *, weight: int) -> None:
        """Record how long a finished unit of that weight took."""
        self._durations.append(seconds / max(1, weight))

    def is_slow(self, seconds: float, *, weight: int) -> bool:
        """Return whether a unit that has run for so long takes three times the median, and at least ten seconds.

        With fewer than five durations, no unit is slow.
        """
        if len(self._durations) < _MIN_DURATIONS or seconds < _MIN_SLOW_S:
            return False
        return seconds > _SLOW_FACTOR * median(self._durations) * max(1, weight)
