"""Attribute the loss of a worker to the worker itself or to its node: units are suspects only in the first case.

No Ray here, so that the rules can be read and tested.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.execution.schedule import InFlightUnit

_REPORTED_GRACE_S = 2.0
_UNREACHABLE_GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class PendingLoss:
    """The loss of a worker, not attributed yet.

    Attributes:
        units: that were running on the worker.
        node: of the worker; None if unknown.
        reason: as reported.
        deadline: when the loss counts as the worker's own death, in seconds of the clock.
    """

    units: list[InFlightUnit]
    node: str | None
    reason: str
    deadline: float


class LossAttribution:
    """Losses that are not attributed yet.

    A cluster notices the death of a process at once, but that of a node only after a while; a closed port of the node
    shows it sooner. So a worker that is reported dead died alone unless its node is found dead within two seconds. For
    a worker that is only unreachable, the grace period is thirty seconds. A loss that is still unexplained then counts
    as the worker's own death.

    Args:
        clock: seconds, of any origin.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pending: list[PendingLoss] = []

    def __len__(self) -> int:
        """Return the number of losses that are not attributed yet."""
        return len(self._pending)

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes of the lost workers."""
        return frozenset(loss.node for loss in self._pending if loss.node is not None)

    def add(self, units: list[InFlightUnit], *, node: str | None, reason: str, is_certain: bool) -> None:
        """Add the loss of a worker.

        Args:
            units: that were running on the worker.
            node: of the worker; None if unknown.
            reason: as reported.
            is_certain: whether the worker was reported dead, and not only as unreachable.
        """
        grace_s = _REPORTED_GRACE_S if is_certain else _UNREACHABLE_GRACE_S
        self._pending.append(PendingLoss(units, node, reason, self._clock() + grace_s))

    def resolve(self, dead_nodes: frozenset[str]) -> Iterator[tuple[PendingLoss, bool]]:
        """Remove and yield the losses that can be attributed now.

        Args:
            dead_nodes: nodes known to be dead.

        Yields:
            A loss, and whether the worker died on its own.
        """
        losses, self._pending, now = self._pending, [], self._clock()
        for loss in losses:
            if loss.node not in dead_nodes and now < loss.deadline:
                self._pending.append(loss)
            else:
                yield loss, loss.node not in dead_nodes
