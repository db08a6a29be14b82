"""Tasks that prepare units for the workers, on CPUs that the workers do not have."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from cluster.execution.schedule import InFlightUnit
from cluster.execution.step import Helpers, SplitStep, Step

_PATIENCE_S = 10.0
_REST_S = 60.0


def _prepare(step: SplitStep, tools: Any, payload: Any) -> Any:
    return step.prepare(tools, payload)


class HelperTasks:
    """Units that helpers are at.

    Helpers are tasks and not actors: what they return can be made again by Ray wherever a node is lost, and one that
    dies costs nothing but another try. One that fails for good is not our concern: the worker then finds out by itself.

    Args:
        step: what is prepared; one that cannot be split has no helpers.
        helpers: how many, and what each occupies; None for none.
    """

    def __init__(self, step: Step, helpers: Helpers | None) -> None:
        self._step = step
        self._helpers = helpers if isinstance(step, SplitStep) else None
        self._tools: Any = None
        self._task: Any = None
        self._lent: dict[Any, tuple[InFlightUnit, float]] = {}
        self._rests_until = float("-inf")

    @property
    def room(self) -> int:
        """Units that keep helpers busy, beside those that workers hold."""
        return 3 * self._helpers.count if self._helpers else 0

    def has_room(self, *, beside: int) -> bool:
        """Whether another unit can be prepared.

        Args:
            beside: units that are prepared and wait for a worker. With twice as many as there are helpers, workers are
                what is waited for, and more would only fill the cluster's memory.
        """
        if self._helpers is None or self._tools is None or time.monotonic() < self._rests_until:
            return False
        return len(self._lent) < self._helpers.count and beside < 2 * self._helpers.count

    @property
    def references(self) -> list[Any]:
        """What to wait for."""
        return list(self._lent)

    def learn(self, worker: Any) -> None:
        """A worker is ready: ask it for the tools, if no other has been asked, or none that lived to answer."""
        if self._helpers is not None and (self._tools is None or _is_lost(self._tools)):
            self._tools = worker.tools.remote()

    def begin(self, ticket: InFlightUnit) -> None:
        """Prepare a unit."""
        import ray

        assert self._helpers is not None, "begun without helpers"
        if self._task is None:  # Made once: Ray would keep each anew, here, on the head and on every helper.
            self._task = ray.remote(_prepare).options(
                num_cpus=self._helpers.cpus, label_selector=dict(self._helpers.labels) or None, max_retries=3
            )
        self._lent[self._task.remote(self._step, self._tools, ticket.unit.payload)] = (ticket, time.monotonic())

    def end(self, reference: Any) -> InFlightUnit:
        """A helper has come to an end with a unit, for good or bad."""
        ticket, _ = self._lent.pop(reference)
        ticket.prepared = reference
        return ticket

    def recall(self) -> Iterator[InFlightUnit]:
        """Take back the units that have waited for long, and lend none for a while: there may be no CPU for helpers."""
        import ray

        for reference, (ticket, since) in list(self._lent.items()):
            if time.monotonic() - since > _PATIENCE_S:
                del self._lent[reference]
                ray.cancel(reference)
                self._rests_until = time.monotonic() + _REST_S
                yield ticket

    def close(self) -> None:
        """Stop all of them."""
        import ray

        for reference in self._lent:
            ray.cancel(reference)
        self._lent.clear()


def _is_lost(answer: Any) -> bool:
    """Whether an answer has come that is none."""
    import ray
    from ray.exceptions import RayError

    if not ray.wait([answer], timeout=0)[0]:
        return False
    try:
        ray.get(answer)
    except RayError:
        return True
    return False
