"""Did a worker die by itself, or with its node? Units are suspects only where nothing else explains the loss.

No Ray here, so that the rules can be read and tested.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.execution.schedule import InFlightUnit

_CERTAIN_S = 2.0
_UNCERTAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class PendingLoss:
    """A loss that waits for a verdict.

    Attributes:
        units: that the worker held.
        node: it ran on; None if that is not known.
        reason: what was reported.
        until: when it counts as the worker's own death, in the clock's seconds.
    """

    units: list[InFlightUnit]
    node: str | None
    reason: str
    until: float


class LossAttribution:
    """Losses without a verdict.

    A cluster notices the death of a process at once and that of a node after a while; that nobody listens there any
    more shows sooner. So a worker that was reported dead was alone in that, unless its node follows within two seconds;
    for one that just stopped to answer, its node has thirty. What is still unknown then counts as the worker's own
    death.

    Args:
        clock: seconds, of any origin.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: list[PendingLoss] = []

    def __len__(self) -> int:
        """How many."""
        return len(self._open)

    @property
    def nodes(self) -> frozenset[str]:
        """Where the workers ran."""
        return frozenset(trial.node for trial in self._open if trial.node is not None)

    def begin(self, units: list[InFlightUnit], *, node: str | None, reason: str, is_certain: bool) -> None:
        """A worker was lost.

        Args:
            units: that it held.
            node: it ran on.
            reason: what was reported.
            is_certain: whether its death was, and not only that it cannot be reached.
        """
        grace_s = _CERTAIN_S if is_certain else _UNCERTAIN_S
        self._open.append(PendingLoss(units, node, reason, self._clock() + grace_s))

    def attributed(self, dead: frozenset[str]) -> Iterator[tuple[PendingLoss, bool]]:
        """Close the trials that can be.

        Args:
            dead: nodes that are known to be.

        Yields:
            A trial, and whether the worker died by itself.
        """
        loss_attribution, self._open, now = self._open, [], self._clock()
        for trial in loss_attribution:
            if trial.node not in dead and now < trial.until:
                self._open.append(trial)
            else:
                yield trial, trial.node not in dead
