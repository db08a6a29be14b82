"""Tasks that prepare units for the workers, on CPUs that no worker uses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from cluster.execution.schedule import InFlightUnit
from cluster.execution.step import Helpers, SplitStep, Step

_TASK_TIMEOUT_S = 10.0
_PAUSE_S = 60.0


def _prepare(step: SplitStep, tools: Any, payload: Any) -> Any:
    return step.prepare(tools, payload)


class HelperTasks:
    """Units that helpers prepare.

    Helpers are tasks and not actors: Ray can compute their results again when a node is lost, and a helper that dies
    costs one more attempt. One that fails for good is left to the worker, which runs the whole unit then.

    Args:
        step: the step; one that cannot be split has no helpers.
        helpers: the number of helpers, and the resources of each; None for no helpers.
    """

    def __init__(self, step: Step, helpers: Helpers | None) -> None:
        self._step = step
        self._helpers = helpers if isinstance(step, SplitStep) else None
        self._tools: Any = None
        self._task: Any = None
        self._running: dict[Any, tuple[InFlightUnit, float]] = {}
        self._paused_until = float("-inf")

    @property
    def max_in_flight(self) -> int:
        """The number of units that keep all helpers busy, in addition to those of workers; 0 without helpers."""
        return 3 * self._helpers.count if self._helpers else 0

    def has_slot(self, *, num_prepared: int) -> bool:
        """Return whether another unit can be prepared now.

        Args:
            num_prepared: units that are prepared and wait for a worker. With twice as many as helpers, workers are the
                bottleneck, and more prepared units would only fill the cluster's memory.
        """
        if self._helpers is None or self._tools is None or time.monotonic() < self._paused_until:
            return False
        return len(self._running) < self._helpers.count and num_prepared < 2 * self._helpers.count

    @property
    def references(self) -> list[Any]:
        """The pending results."""
        return list(self._running)

    def request_tools(self, worker: Any) -> None:
        """Request the tools from a worker that is ready, unless an earlier worker has them or may still send them."""
        if self._helpers is not None and (self._tools is None or _has_failed(self._tools)):
            self._tools = worker.tools.remote()

    def start(self, item: InFlightUnit) -> None:
        """Start to prepare a unit."""
        import ray

        assert self._helpers is not None, "started without helpers"
        if self._task is None:  # Made once: Ray stores every new one in this process, on the head and on every helper.
            self._task = ray.remote(_prepare).options(
                num_cpus=self._helpers.cpus, label_selector=dict(self._helpers.labels) or None, max_retries=3
            )
        self._running[self._task.remote(self._step, self._tools, item.unit.payload)] = (item, time.monotonic())

    def finish(self, reference: Any) -> InFlightUnit:
        """Return the unit of a task that has ended, successfully or not."""
        item, _ = self._running.pop(reference)
        item.prepared = reference
        return item

    def cancel_delayed(self) -> Iterator[InFlightUnit]:
        """Cancel and yield the units that wait too long, and pause helpers: the cluster may have no CPU for them."""
        import ray

        for reference, (item, started) in list(self._running.items()):
            if time.monotonic() - started > _TASK_TIMEOUT_S:
                del self._running[reference]
                ray.cancel(reference)
                self._paused_until = time.monotonic() + _PAUSE_S
                yield item

    def close(self) -> None:
        """Cancel all tasks."""
        import ray

        for reference in self._running:
            ray.cancel(reference)
        self._running.clear()


def _has_failed(reference: Any) -> bool:
    """Return whether a result has arrived and is an error."""
    import ray
    from ray.exceptions import RayError

    if not ray.wait([reference], timeout=0)[0]:
        return False
    try:
        ray.get(reference)
    except RayError:
        return True
    return False
