"""The workers of one step on Ray: requested, started, lost and replaced."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from textwrap import shorten
from typing import Any

from cluster.errors import UnitLostError, WorkerBrokenError, WorkerStartError
from cluster.execution.step import Step, Workers
from cluster.on_ray.actor import WorkerHandle, request_worker
from cluster.storage.retry import Retry

logger = logging.getLogger(__name__)

_RESTART = Retry(first_delay_s=0.5, max_delay_s=30.0)
_MAKE_ROOM_AFTER_S = 5.0
_MAX_REASON_LENGTH = 400
_NODE_DIED = "its node has died"
_HINTS = {
    "all references to the actor were removed": "RAY_AUTH_MODE may differ between this process and the cluster.",
    "OutOfMemoryError": "Reserve more memory for each worker, so that fewer share a machine.",
}
"""Part of Ray's message, and the advice for it."""


class WorkerPool:
    """The live workers of a step. It outlives a run, so that the next run of an equal step finds them ready.

    Args:
        step: for which the workers are set up.
        shape: resources of each worker; its `count` is not used here.
        capacity_timeout_s: how long to wait while the cluster has no room for any worker.
        can_grow: whether nodes may join the cluster. If not, a worker that can never fit is an error at once.
        make_room: stops workers of other steps. Called when no worker was placed for a while: the resources that those
            leave free may suffice in total but not on any single node.

    Attributes:
        workers: the requested, starting and ready workers.
    """

    def __init__(
        self,
        step: Step,
        shape: Workers,
        *,
        capacity_timeout_s: float,
        can_grow: bool,
        make_room: Callable[[], None],
    ) -> None:
        self._step = step
        self._shape = shape
        self._capacity_timeout_s = capacity_timeout_s
        self._can_grow = can_grow
        self._make_room = make_room
        self._losses = 0  # In a row, without a result from any worker.
        self._results = 0
        self._not_before = 0.0
        self._was_ready = False
        self._last_stop = float("-inf")  # When a worker last freed its resources.
        self.workers: list[WorkerHandle] = []

    @property
    def starting(self) -> dict[Any, WorkerHandle]:
        """Workers that are not ready for units, by the reference of their pending start."""
        return {worker.started: worker for worker in self.workers if not worker.is_ready}

    def begin_run(self, count: int) -> None:
        """Begin another run: stop workers beyond `count`, and check that the others are alive."""
        for worker in self.workers[count:]:
            self.stop(worker)
        for worker in self.workers:
            worker.is_ready = False
            worker.started = worker.actor.setup.remote()

    def start_workers(self, count: int) -> None:
        """Request workers until there are `count` that are not draining, with a delay after losses.

        Requests that the cluster has no room for stay open: an autoscaler adds nodes for them.

        Raises:
            WorkerStartError: a worker needs more than this machine has, or the step cannot be pickled.
        """
        missing = count - sum(not worker.is_draining for worker in self.workers)
        if missing <= 0 or time.monotonic() < self._not_before:
            return
        if not self._can_grow and not fits_cluster(self.demand(1)):
            raise WorkerStartError(f"no worker fits on this machine. {self._capacity_message()}")
        for _ in range(missing):
            try:
                self.workers.append(request_worker(self._step, self._shape))
            except TypeError as error:
                raise WorkerStartError(f"{type(self._step).__name__} cannot be sent to a worker: {error}") from error

    def finish_start(self, worker: WorkerHandle) -> None:
        """Take the result of a worker's `setup`, and mark the worker as ready.

        Raises:
            WorkerStartError: `setup` failed, as it would on every worker.
            ray.exceptions.RayError: the worker was lost meanwhile.
        """
        import ray
        from ray.exceptions import ActorDiedError, RayTaskError

        try:
            failure = ray.get(worker.started)
        except RayTaskError as error:
            failure = str(error)
        except ActorDiedError as error:
            if not error.actor_init_failed:
                raise
            failure = str(error)
        if failure is not None:
            raise WorkerStartError(f"{type(self._step).__name__}.setup failed on a worker:\n{failure}")
        worker.known_node = ray.get(worker.placed)
        worker.is_ready = self._was_ready = True

    def count_result(self) -> None:
        """Count the result of a unit: it shows that workers can survive."""
        self._losses = 0
        self._results += 1

    def remove_lost(self, worker: WorkerHandle) -> None:
        """Remove a lost worker. `start_workers` replaces it after a delay that grows with every counted loss."""
        self.stop(worker)
        self._not_before = time.monotonic() + _RESTART.delay_s(self._losses + 1)

    def count_loss(self, reason: str) -> None:
        """Count the loss of a worker that did not die with its node.

        The more units have finished, the more losses in a row are tolerated: a thousand bad files side by side in a
        large archive are given up one by one.

        Raises:
            WorkerStartError: workers die while they start, and none has ever been ready.
            UnitLostError: workers keep dying without a result in between.
        """
        self._losses += 1
        attempts = self._shape.max_attempts
        if not self._was_ready and self._losses >= attempts:
            raise WorkerStartError(f"{self._losses} workers in a row died while starting. The last one: {reason}")
        if self._losses > len(self.workers) + 4 * attempts + self._results:
            raise UnitLostError(
                f"{self._losses} workers in a row died without finishing a unit. The last one: {reason}"
            )

    def check_capacity(self) -> None:
        """Make sure that at least one worker has been placed in time.

        Raises:
            WorkerStartError: the cluster has had no room for a single worker for `capacity_timeout_s`.
            UnitLostError: the same after units have finished: the nodes have left. Run again when there are others.
        """
        unplaced_s = self.unplaced_s()
        if unplaced_s > _MAKE_ROOM_AFTER_S:
            self._make_room()
        if unplaced_s > self._capacity_timeout_s:
            error = UnitLostError if self._results else WorkerStartError
            raise error(
                f"the cluster had no room for a worker in {self._capacity_timeout_s:.0f} s. {self._capacity_message()}"
            )

    def unplaced_s(self) -> float:
        """Return the seconds for which workers have been requested and none is placed; 0 if one is placed.

        Requests may stay open for hours while other workers run: the time counts from the stop of the last of those.
        """
        if not self.workers or len(self._unplaced()) < len(self.workers):
            return 0.0
        return time.monotonic() - max(self._last_stop, min(worker.requested_at for worker in self.workers))

    def end_run(self) -> None:
        """End a run: withdraw the requests that the cluster has had no room for."""
        for worker in self._unplaced():
            self.stop(worker)

    def stop(self, worker: WorkerHandle) -> None:
        """Kill a worker, also in the middle of a unit."""
        import ray

        self.workers.remove(worker)
        self._last_stop = time.monotonic()
        ray.kill(worker.actor)

    def close(self) -> None:
        """Kill all workers, also in the middle of units."""
        for worker in list(self.workers):
            self.stop(worker)

    def demand(self, count: int) -> dict[str, float]:
        """Return the resources of that many workers, by Ray's names."""
        shape = self._shape
        return {"CPU": count * shape.cpus, "GPU": count * shape.gpus, "memory": count * float(shape.memory_bytes or 0)}

    def _unplaced(self) -> list[WorkerHandle]:
        import ray

        if not self.workers:
            return []
        _, pending = ray.wait([worker.placed for worker in self.workers], num_returns=len(self.workers), timeout=0)
        return [worker for worker in self.workers if worker.placed in pending]

    def _capacity_message(self) -> str:
        import ray

        needed, available = _amounts(self.demand(1)), _amounts(ray.cluster_resources())
        where = "".join(f", on nodes labelled {name}={value}" for name, value in self._shape.labels)
        return f"Each worker needs {needed}{where}; the cluster has {available} in total. Request less, or add nodes."


def fits_cluster(demand: Mapping[str, float]) -> bool:
    """Return whether the idle cluster as a whole has these resources."""
    import ray

    total = ray.cluster_resources()
    return all(amount <= total.get(name, 0.0) + 1e-6 for name, amount in demand.items())


def loss_reason(error: Exception) -> str:
    """Return on one line why a worker died, without Ray's list of identifiers, and with advice where there is any."""
    if isinstance(error, WorkerBrokenError):  # As Ray's error it has a traceback in its message.
        error = getattr(error, "cause", error)
    name = type(error).__name__
    lines = [line for line in str(error).splitlines() if not line.startswith("\t")]
    hints = [hint for mark, hint in _HINTS.items() if mark in f"{name}: {error}"]
    return " ".join([shorten(f"{name}: {' '.join(lines)}", _MAX_REASON_LENGTH, placeholder=" …"), *hints])


def is_node_death(error: Exception) -> bool:
    """Return whether Ray reports that the worker's node died. Otherwise `LossAttribution` decides later.

    For a worker that has not returned its node yet, this report is the only evidence.
    """
    return _NODE_DIED in str(error)


def _amounts(resources: Mapping[str, float]) -> str:
    gib = resources.get("memory", 0.0) / 2**30
    return f"{resources.get('CPU', 0.0):g} CPU, {resources.get('GPU', 0.0):g} GPU, {gib:.1f} GiB memory"
