"""The actor with a step's state, and the driver's handle of it."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, cast

from cluster.execution.events import UnitDone, UnitFailed
from cluster.execution.step import Part, SplitStep, Step, Unit, Workers
from cluster.execution.worker import run_unit
from cluster.on_ray.metrics import count_unit
from cluster.secrets import redacted
from cluster.storage.store import Ledger

_FETCH_TIMEOUTS_S = (2.0, 10.0, 60.0)


class Worker:
    """An actor in its own process. Its methods return small values: parts go directly to storage."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._state: Any = None
        self._is_ready = False
        self._setting_up = threading.Lock()

    def node_id(self) -> str:
        """Return the node of this worker. Available before `setup` ends, which may take minutes."""
        import ray

        node: str = ray.get_runtime_context().get_node_id()
        return node

    def setup(self) -> str | None:
        """Set the step up, once.

        Returns:
            None, or the traceback of the exception.
        """
        with self._setting_up:
            if self._is_ready:
                return None
            try:
                self._state = self._step.setup()
            except Exception:  # noqa: BLE001 -- the process boundary: every worker would raise it
                return redacted(traceback.format_exc())
            self._is_ready = True
            return None

    def tools(self) -> Any:
        """Return what helpers need of the state. Only for a worker that has been set up for a `SplitStep`."""
        return cast(SplitStep, self._step).tools(self._state)

    def run(self, unit: Unit, ledger: Ledger, max_attempts: int, prepared: list[Any]) -> UnitDone | UnitFailed:
        """Compute a unit and commit its part.

        Args:
            unit: the unit.
            ledger: where the part is committed.
            max_attempts: number of attempts after storage errors.
            prepared: the reference to a helper's result, or nothing. In a list, because Ray would fetch a direct
                argument before the call, and fail the call where that is not possible.
        """
        step = _PreparedStep(cast(SplitStep, self._step), prepared[0]) if prepared else self._step
        event = run_unit(step, self._state, unit, ledger, max_attempts=max_attempts)
        count_unit(self._step, event)
        return event


@dataclass(frozen=True, slots=True)
class _PreparedStep:
    """A step for one unit that a helper has prepared. If the helper's result is lost, the whole unit runs here."""

    step: SplitStep
    reference: Any

    def setup(self) -> None:
        """Do nothing: the worker has the state already."""

    def run(self, state: Any, payload: Any) -> Part:
        from ray.exceptions import RayError

        try:
            prepared = _fetch_prepared(self.reference)
        except RayError:
            return self.step.run(state, payload)
        return self.step.run_prepared(state, payload, prepared)


def _fetch_prepared(reference: Any) -> Any:
    """Return a helper's result.

    If it was lost with the helper's node, Ray would compute it again and wait for that, without end if such nodes never
    come back. So after each timeout its locations are looked up. The timeouts grow, because each begins a new transfer.

    Raises:
        ray.exceptions.RayError: the helper failed, no node has the result any more, or it does not arrive in time.
    """
    import ray
    from ray.exceptions import GetTimeoutError
    from ray.experimental import get_object_locations

    for timeout_s in _FETCH_TIMEOUTS_S:
        try:
            return ray.get(reference, timeout=timeout_s)
        except GetTimeoutError:
            if not get_object_locations([reference], 5000).get(reference, {}).get("node_ids"):
                break
    raise GetTimeoutError("the result of a helper does not arrive")


@dataclass(eq=False, slots=True)
class WorkerHandle:
    """A worker of the pool, with the two pending results that show how far its start is.

    Attributes:
        actor: Ray's handle.
        placed: reference to the node's name, pending until the cluster has room for the worker.
        started: reference to the result of `setup`, pending until that has ended.
        requested_at: time of the request, on the monotonic clock in seconds.
        is_ready: whether `setup` succeeded.
        is_visible: whether this process has seen a part that the worker committed.
        is_draining: whether its node has notice to leave.
        known_node: the worker's node, once known.
        had: what the units that it got in its lifetime needed.
    """

    actor: Any
    placed: Any
    started: Any
    requested_at: float = field(default_factory=time.monotonic)
    is_ready: bool = False
    is_visible: bool = False
    is_draining: bool = False
    known_node: str | None = None
    had: set[Hashable] = field(default_factory=set)

    @property
    def node(self) -> str | None:
        """The worker's node; None if it was not placed, or died before it could return the name."""
        import ray
        from ray.exceptions import RayError

        if self.known_node is None and ray.wait([self.placed], timeout=0)[0]:
            try:
                self.known_node = ray.get(self.placed)
            except RayError:
                return None
        return self.known_node


def request_worker(step: Step, shape: Workers) -> WorkerHandle:
    """Request a new worker. Ray never restarts it: a restarted actor would have lost its state silently."""
    import ray

    actor = (
        ray.remote(Worker)
        .options(
            num_cpus=shape.cpus,
            num_gpus=shape.gpus,
            memory=shape.memory_bytes,
            label_selector=dict(shape.labels) or None,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=shape.overlap,
        )
        .remote(step)
    )
    return WorkerHandle(actor, actor.node_id.remote(), actor.setup.remote())
