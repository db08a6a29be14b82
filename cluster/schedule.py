"""Which unit goes to which worker, and what a lost worker says about its units. No Ray, no clock, no threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from cluster.step import Unit

W = TypeVar("W", bound=Hashable)


@dataclass(eq=False, slots=True)
class Ticket:
    """A unit on its way. `losses` counts the workers that died holding it, for which no other reason was found."""

    unit: Unit
    losses: int = 0


class Schedule(Generic[W]):
    """Units in flight on workers of type `W`.

    A worker that dies does not say which of its units killed it, or whether any did. So its units wait until the caller
    knows more. If it went with its node, they are acquitted and were never lost. Otherwise all of them become
    suspects, and a suspect is only run alone: if that worker dies, too, it was this unit. Suspects that finish were
    innocent, and no unit is given up on suspicion.

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
        self._leaving: set[W] = set()
        self._on_trial = 0

    @property
    def alive(self) -> int:
        """Units that were added and have not come to an end."""
        return len(self._waiting) + len(self._suspects) + sum(map(len, self._held.values())) + self._on_trial

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

    def lose(self, worker: W) -> list[Ticket]:
        """The worker died. The units it held are returned and wait for `acquit` or `convict`."""
        lost = self._forget(worker)
        self._on_trial += len(lost)
        return lost

    def acquit(self, lost: Iterable[Ticket]) -> None:
        """The worker died of something else: its units are the next to be handed out, suspects of before alone."""
        for ticket in lost:
            self._on_trial -= 1
            (self._suspects if ticket.losses else self._waiting).appendleft(ticket)

    def convict(self, lost: list[Ticket]) -> list[Ticket]:
        """One of the units may have killed the worker.

        Returns:
            those that are given up: at most one, which was alone on it.
        """
        self._on_trial -= len(lost)
        for ticket in lost:
            ticket.losses += 1
        guilty = lost if len(lost) == 1 and lost[0].losses >= self._max_attempts else []
        self._suspects.extend(ticket for ticket in lost if ticket not in guilty)
        return guilty

    def _forget(self, worker: W) -> list[Ticket]:
        self._leaving.discard(worker)
        return self._held.pop(worker, [])

    def _next_pair(self) -> tuple[W, Ticket] | None:
        staying = (worker for worker in self._held if worker not in self._leaving)
        by_load = sorted(staying, key=lambda worker: len(self._held[worker]))
        if self._suspects:
            if by_load and not self._held[by_load[0]]:
                return by_load[0], self._suspects.popleft()
            by_load = by_load[1:]  # The least busy worker takes nothing new, so that it will be free for a suspect.
        if self._waiting:
            for worker in by_load:
                if len(self._held[worker]) < self._overlap and not any(ticket.losses for ticket in self._held[worker]):
                    return worker, self._waiting.popleft()
        return None
