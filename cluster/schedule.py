"""Which unit goes to which worker, and what a lost worker says about its units. No Ray, no clock, no threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from cluster.step import Unit

W = TypeVar("W", bound=Hashable)


@dataclass(eq=False, slots=True)
class Ticket:
    """A unit on its way. `losses` counts the workers that died holding it."""

    unit: Unit
    losses: int = 0


class Schedule(Generic[W]):
    """Units in flight on workers of type `W`.

    A worker that dies does not say which of its units killed it. So all of them become suspects, and a suspect is
    only run alone: if that worker dies, too, it was this unit. Suspects that finish were innocent, and no unit is
    given up on suspicion.

    Args:
        overlap: units that a worker holds at a time.
        max_attempts: workers that a unit may take down.
    """

    def __init__(self, *, overlap: int, max_attempts: int) -> None:
        self._overlap = overlap
        self._max_attempts = max_attempts
        self._waiting: deque[Ticket] = deque()
        self._suspects: deque[Ticket] = deque()
        self._held: dict[W, list[Ticket]] = {}

    @property
    def alive(self) -> int:
        """Units that were added and have not come to an end."""
        return len(self._waiting) + len(self._suspects) + sum(map(len, self._held.values()))

    def add(self, unit: Unit) -> None:
        """Accept a unit."""
        self._waiting.append(Ticket(unit))

    def join(self, worker: W) -> None:
        """A worker can take units."""
        self._held.setdefault(worker, [])

    def assign(self) -> Iterator[tuple[W, Ticket]]:
        """Hand out units for as long as some worker may take one. The caller starts each pair that it is given."""
        while (pair := self._next_pair()) is not None:
            worker, ticket = pair
            self._held[worker].append(ticket)
            yield pair

    def finish(self, worker: W, ticket: Ticket) -> None:
        """The worker gave an answer: the unit came to an end."""
        self._held[worker].remove(ticket)

    def lose(self, worker: W) -> tuple[list[Ticket], list[Ticket]]:
        """The worker died.

        Returns:
            The units it held, and those of them that are given up: at most one, which was alone on it.
        """
        lost = self._held.pop(worker, [])
        for ticket in lost:
            ticket.losses += 1
        guilty = lost if len(lost) == 1 and lost[0].losses >= self._max_attempts else []
        self._suspects.extend(ticket for ticket in lost if ticket not in guilty)
        return lost, guilty

    def _next_pair(self) -> tuple[W, Ticket] | None:
        by_load = sorted(self._held, key=lambda worker: len(self._held[worker]))
        if self._suspects:
            if by_load and not self._held[by_load[0]]:
                return by_load[0], self._suspects.popleft()
            by_load = by_load[1:]  # The least busy worker takes nothing new, so that it will be free for a suspect.
        if self._waiting:
            for worker in by_load:
                if len(self._held[worker]) < self._overlap and not any(ticket.losses for ticket in self._held[worker]):
                    return worker, self._waiting.popleft()
        return None
