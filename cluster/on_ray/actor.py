"""The actor that owns a step's state, and its life as the driver sees it."""

from __future__ import annotations

import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import Any, cast

from cluster.execution.events import UnitDone, UnitFailed
from cluster.execution.step import Part, SplitStep, Step, Unit, Workers
from cluster.execution.worker import run_unit
from cluster.secrets import redacted
from cluster.storage.store import Ledger

_FETCH_S = (2.0, 10.0, 60.0)


class Worker:
    """Runs in a process of its own. Its methods return small values: parts go straight to storage."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._state: Any = None
        self._is_ready = False
        self._setting_up = threading.Lock()

    def place(self) -> str:
        """The node this worker was placed on. Answers before `setup`, which may take minutes."""
        import ray

        node: str = ray.get_runtime_context().get_node_id()
        return node

    def setup(self) -> str | None:
        """Set the step up, unless that has been done.

        Returns:
            None, or the traceback of what went wrong.
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
        """What helpers need. Only asked of a worker that is set up for a `SplitStep`."""
        return cast(SplitStep, self._step).tools(self._state)

    def run(self, unit: Unit, ledger: Ledger, max_attempts: int, prepared: list[Any]) -> UnitDone | UnitFailed:
        """Compute a unit and commit its part.

        Args:
            unit: the unit.
            ledger: where to.
            max_attempts: how often to try where storage fails.
            prepared: the reference to what a helper made of the unit, or nothing. In a list, because Ray would fetch it
                before the call otherwise, and fail the call where that is not possible.
        """
        step = _Prepared(cast(SplitStep, self._step), prepared[0]) if prepared else self._step
        return run_unit(step, self._state, unit, ledger, max_attempts=max_attempts)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A step for one unit that a helper has begun. Where that came to nothing, the worker does all of it itself."""

    step: SplitStep
    reference: Any

    def setup(self) -> None:
        """Nothing to do: the state is there."""

    def run(self, state: Any, payload: Any) -> Part:
        from ray.exceptions import RayError

        try:
            prepared = _fetched(self.reference)
        except RayError:
            return self.step.run(state, payload)
        return self.step.run_prepared(state, payload, prepared)


def _fetched(reference: Any) -> Any:
    """What a helper has made.

    Where it went with the helper's node, Ray would have it made again and wait for that, for ever if such nodes never
    come back. So now and then it is asked whether it lies anywhere. The times in between grow: each begins a transfer
    anew.

    Raises:
        ray.exceptions.RayError: the helper failed, no node has it any more, or it does not arrive.
    """
    import ray
    from ray.exceptions import GetTimeoutError
    from ray.experimental import get_object_locations

    for patience_s in _FETCH_S:
        try:
            return ray.get(reference, timeout=patience_s)
        except GetTimeoutError:
            if not get_object_locations([reference], 5000).get(reference, {}).get("node_ids"):
                break
    raise GetTimeoutError("what a helper prepared does not arrive")


@dataclass(eq=False, slots=True)
class Member:
    """A worker of the pool, and the two answers that say how far it has come.

    Attributes:
        actor: its handle.
        placed: pending until the cluster has room for it.
        started: pending until `setup` is over.
        since: when it was asked for, on the monotonic clock in seconds.
        is_ready: whether `setup` succeeded.
        is_visible: whether a part it committed was seen from here.
        is_leaving: whether its node was told to leave.
        known_node: the node it runs on, once that is known.
    """

    actor: Any
    placed: Any
    started: Any
    since: float = field(default_factory=time.monotonic)
    is_ready: bool = False
    is_visible: bool = False
    is_leaving: bool = False
    known_node: str | None = None

    @property
    def node(self) -> str | None:
        """The node it runs on; None if it was not placed, or died before it could say."""
        import ray
        from ray.exceptions import RayError

        if self.known_node is None and ray.wait([self.placed], timeout=0)[0]:
            try:
                self.known_node = ray.get(self.placed)
            except RayError:
                return None
        return self.known_node


def start(step: Step, shape: Workers) -> Member:
    """Ask for a new worker. It is never restarted by Ray: a restarted actor would have lost its state silently."""
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
    return Member(actor, actor.place.remote(), actor.setup.remote())
