"""Which unit goes to which worker, and what a lost worker says about its units. No Ray, no clock, no threads."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, Generic, TypeVar

from cluster.execution.step import Unit

W = TypeVar("W", bound=Hashable)

_MAX_DURATIONS = 501
_MIN_DURATIONS = 5
_SLOW_FACTOR = 3.0
_MIN_SLOW_S = 10.0


@dataclass(eq=False, slots=True)
class InFlightUnit:
    """A unit on its way.

    Attributes:
        unit: the unit.
        losses: workers that died holding it, and for which no other reason was found.
        prepared: what a helper has made of it; None without one.
        started: when a worker got it, in the caller's seconds.
        is_over: whether it came to an end. A copy of it may still run.
    """

    unit: Unit
    losses: int = 0
    prepared: Any = None
    started: float = 0.0
    is_over: bool = False


class Schedule(Generic[W]):
    """Units in flight on workers of type `W`.

    A worker that dies does not say which of its units killed it, or whether any did. So its units wait until the caller
    knows more. If it went with its node, they are acquitted and were never lost. Otherwise all of them become
    suspects, and a suspect is only run alone: if that worker dies, too, it was this unit. Suspects that finish were
    innocent, and no unit is given up on suspicion.

    Args:
        overlap: units that a worker holds at a time.
        max_attempts: workers that a unit may take down.
        unprepared: how many of them nobody has prepared. With helpers, one: the other places are for what they prepare,
            or it would wait until the worker has done the same work twice as slowly.

    Attributes:
        alive: units that were added and have not come to an end.
    """

    def __init__(self, *, overlap: int, max_attempts: int, unprepared: int | None = None) -> None:
        self._overlap = overlap
        self._max_attempts = max_attempts
        self._unprepared = overlap if unprepared is None else unprepared
        self._waiting: deque[InFlightUnit] = deque()
        self._prepared: deque[InFlightUnit] = deque()
        self._suspects: deque[InFlightUnit] = deque()
        self._held: dict[W, list[InFlightUnit]] = {}
        self._leaving: set[W] = set()
        self.alive = 0

    def add(self, unit: Unit) -> None:
        """Accept a unit."""
        self.alive += 1
        self._waiting.append(InFlightUnit(unit))

    def lend(self) -> InFlightUnit | None:
        """Give a unit to a helper that prepares it; None if none waits for that."""
        return self._waiting.popleft() if self._waiting else None

    @property
    def prepared(self) -> int:
        """Units that helpers have prepared and that no worker has taken yet."""
        return len(self._prepared)

    def take_back(self, ticket: InFlightUnit) -> None:
        """A unit that was lent waits again: before all that nobody has prepared, if it was."""
        (self._waiting if ticket.prepared is None else self._prepared).append(ticket)

    @property
    def is_starved(self) -> bool:
        """Whether some worker holds nothing and there is nothing to hand out."""
        waiting = self._waiting or self._prepared or self._suspects
        return not waiting and any(not held for held in self._held.values())

    def join(self, worker: W) -> None:
        """A worker can take units."""
        self._held.setdefault(worker, [])

    def assign(self) -> Iterator[tuple[W, InFlightUnit]]:
        """Hand out units for as long as some worker may take one. The caller starts each pair that it is given."""
        while (pair := self._next_pair()) is not None:
            worker, ticket = pair
            self._held[worker].append(ticket)
            yield pair

    def finish(self, worker: W, ticket: InFlightUnit) -> bool:
        """The worker gave an answer: the unit came to an end.

        Returns:
            whether this is news; False if another worker gave one before.
        """
        self._held[worker].remove(ticket)
        is_news, ticket.is_over = not ticket.is_over, True
        self.alive -= is_news
        return is_news

    def copy(self, is_slow: Callable[[InFlightUnit], bool]) -> tuple[W, InFlightUnit] | None:
        """When there is nothing else to do: let a second worker run a slow unit, too. The first answer counts.

        Both commit the same bytes. Suspects are not copied: one worker is enough to lose.

        Returns:
            a worker that held nothing, and the unit; None if there is no such worker or no such unit.
        """
        idle = [worker for worker in self._held if not self._held[worker] and worker not in self._leaving]
        if self._prepared or self._waiting or self._suspects or not idle:
            return None
        held = Counter(ticket for tickets in self._held.values() for ticket in tickets)
        for ticket, times in held.items():
            if times == 1 and not ticket.losses and not ticket.is_over and is_slow(ticket):
                self._held[idle[0]].append(ticket)
                return idle[0], ticket
        return None

    def retire(self, worker: W) -> bool:
        """The worker is to leave: it takes nothing new.

        Returns:
            whether it holds nothing either, so that it is forgotten and may go.
        """
        if self._held.get(worker):
            self._leaving.add(worker)
            return False
        self._forget(worker)
        return True

    def lose(self, worker: W) -> list[InFlightUnit]:
        """The worker died. The units that only it held are returned and wait for `clear` or `blame`."""
        lost = self._forget(worker)
        return [ticket for ticket in lost if not ticket.is_over and not self._is_held(ticket)]

    def clear(self, lost: Iterable[InFlightUnit]) -> None:
        """The worker died of something else: its units are the next to be handed out, suspects of before alone."""
        for ticket in lost:
            calm = self._waiting if ticket.prepared is None else self._prepared
            (self._suspects if ticket.losses else calm).appendleft(ticket)

    def blame(self, lost: list[InFlightUnit]) -> list[InFlightUnit]:
        """One of the units may have killed the worker.

        Returns:
            those that are given up: at most one, which was alone on it.
        """
        for ticket in lost:
            ticket.losses += 1
        guilty = lost if len(lost) == 1 and lost[0].losses >= self._max_attempts else []
        self._suspects.extend(ticket for ticket in lost if ticket not in guilty)
        self.alive -= len(guilty)
        return guilty

    def _is_held(self, ticket: InFlightUnit) -> bool:
        return any(ticket in tickets for tickets in self._held.values())

    def _forget(self, worker: W) -> list[InFlightUnit]:
        self._leaving.discard(worker)
        return self._held.pop(worker, [])

    def _next_pair(self) -> tuple[W, InFlightUnit] | None:
        staying = (worker for worker in self._held if worker not in self._leaving)
        by_load = sorted(staying, key=lambda worker: len(self._held[worker]))
        if self._suspects:
            if by_load and not self._held[by_load[0]]:
                return by_load[0], self._suspects.popleft()
            by_load = by_load[1:]  # The least busy worker takes nothing new, so that it will be free for a suspect.
        for queue in (self._prepared, self._waiting):
            for worker in by_load if queue else ():
                if self._has_place(worker, queue[0]):
                    return worker, queue.popleft()
        return None

    def _has_place(self, worker: W, ticket: InFlightUnit) -> bool:
        held = self._held[worker]
        if len(held) >= self._overlap or any(other.losses for other in held):
            return False
        return ticket.prepared is not None or sum(other.prepared is None for other in held) < self._unprepared


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
