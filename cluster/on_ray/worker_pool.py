"""Workers of one step on Ray: asked for, started, lost, replaced."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from textwrap import shorten
from typing import Any

from cluster.errors import UnitLostError, WorkerStartError
from cluster.execution.step import Step, Workers
from cluster.on_ray.actor import Member, start
from cluster.storage.retry import Retry

logger = logging.getLogger(__name__)

_RESPAWN = Retry(first_delay_s=0.5, max_delay_s=30.0)
_PATIENCE_S = 5.0
_REASON_CHARACTERS = 400
_NODE_DIED = "its node has died"
_HINTS = {
    "all references to the actor were removed": "RAY_AUTH_MODE seems to differ between this process and the cluster.",
    "OutOfMemoryError": "Reserve more memory for each worker, so that fewer share a machine.",
}
"""What helps, by what stands in Ray's message."""


class Pool:
    """The live workers of a step. It outlives a run, so that the next run of an equal step finds them warm.

    Args:
        step: what the workers are set up for.
        shape: what each of them occupies; its `count` does not matter here.
        capacity_timeout_s: how long to wait while the cluster has room for no worker at all.
        can_grow: whether nodes may join the cluster. If not, a worker that can never fit is an error at once.
        make_room: dismisses workers of other steps. Called when not one worker was placed for a while, because the
            room that those leave free, though enough in sum, may be in pieces on several nodes.
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
        self._losses = 0  # In a row, without an answer from any worker.
        self._answers = 0
        self._not_before = 0.0
        self._was_ready = False
        self._parted = float("-inf")  # When a worker last left a place in the cluster.
        self.members: list[Member] = []

    @property
    def starting(self) -> dict[Any, Member]:
        """Workers that cannot take units yet, by the answer that they are waited for with."""
        return {member.started: member for member in self.members if not member.is_ready}

    def resume(self, count: int) -> None:
        """Begin another run: dismiss workers beyond `count`, and ask the rest whether they are still there."""
        for member in self.members[count:]:
            self.dismiss(member)
        for member in self.members:
            member.is_ready = False
            member.started = member.actor.setup.remote()

    def staff(self, count: int) -> None:
        """Ask for workers until `count` are there to stay, unless the last loss was a moment ago.

        Those that the cluster has no room for stay asked for: they are what an autoscaler brings nodes for.

        Raises:
            WorkerStartError: a worker needs more than this machine has, or the step cannot be pickled.
        """
        missing = count - sum(not member.is_leaving for member in self.members)
        if missing <= 0 or time.monotonic() < self._not_before:
            return
        if not self._can_grow and not fits(self.demand(1)):
            raise WorkerStartError(f"no worker fits on this machine. {self._asked()}")
        for _ in range(missing):
            try:
                self.members.append(start(self._step, self._shape))
            except TypeError as error:
                raise WorkerStartError(f"{type(self._step).__name__} cannot be sent to a worker: {error}") from error

    def greet(self, member: Member) -> None:
        """A worker's `setup` is over: find out how it went.

        Raises:
            WorkerStartError: it failed, as it would on every worker.
            ray.exceptions.RayError: the worker was lost meanwhile.
        """
        import ray
        from ray.exceptions import ActorDiedError, RayTaskError

        try:
            failure = ray.get(member.started)
        except RayTaskError as error:
            failure = str(error)
        except ActorDiedError as error:
            if not error.actor_init_failed:
                raise
            failure = str(error)
        if failure is not None:
            raise WorkerStartError(f"{type(self._step).__name__}.setup failed on a worker:\n{failure}")
        member.known_node = ray.get(member.placed)
        member.is_ready = self._was_ready = True

    def answered(self) -> None:
        """A worker finished a unit, so whatever kills workers does not kill them all."""
        self._losses = 0
        self._answers += 1

    def drop(self, member: Member) -> None:
        """A worker is gone; `staff` replaces it after a delay that grows with every loss that was counted."""
        self.dismiss(member)
        self._not_before = time.monotonic() + _RESPAWN.delay_s(self._losses + 1)

    def count_loss(self, reason: str) -> None:
        """A worker that was dropped did not go with its node.

        The more units have ended well, the more losses in a row are borne: a thousand bad files side by side in a large
        archive are given up one by one.

        Raises:
            WorkerStartError: workers die while they start, and none has ever been ready.
            UnitLostError: workers keep dying and none answers in between.
        """
        self._losses += 1
        attempts = self._shape.max_attempts
        if not self._was_ready and self._losses >= attempts:
            raise WorkerStartError(f"{self._losses} workers in a row died while starting. The last one: {reason}")
        if self._losses > len(self.members) + 4 * attempts + self._answers:
            raise UnitLostError(f"{self._losses} workers in a row died without an answer. The last one: {reason}")

    def check_room(self) -> None:
        """Make sure that somebody works or starts to.

        Raises:
            WorkerStartError: the cluster has had no room for a single worker for `capacity_timeout_s`.
            UnitLostError: so it is, but it had: its nodes have left. Run again when there are others.
        """
        waited_s = self.waited_s()
        if waited_s > _PATIENCE_S:
            self._make_room()
        if waited_s > self._capacity_timeout_s:
            error = UnitLostError if self._answers else WorkerStartError
            raise error(f"the cluster had no room for a worker in {self._capacity_timeout_s:.0f} s. {self._asked()}")

    def waited_s(self) -> float:
        """Seconds for which workers have been asked for and not one has been placed; 0 if one has been.

        While others worked, requests may have stood open for hours: they have waited since the last of those was gone.
        """
        if not self.members or len(self._unplaced()) < len(self.members):
            return 0.0
        return time.monotonic() - max(self._parted, min(member.since for member in self.members))

    def settle(self) -> None:
        """End a run: take back requests that the cluster has not met."""
        for member in self._unplaced():
            self.dismiss(member)

    def dismiss(self, member: Member) -> None:
        """End a worker, whatever it is doing."""
        import ray

        self.members.remove(member)
        self._parted = time.monotonic()
        ray.kill(member.actor)

    def close(self) -> None:
        """Dismiss all workers, whatever they are doing."""
        for member in list(self.members):
            self.dismiss(member)

    def demand(self, count: int) -> dict[str, float]:
        """What that many workers occupy, in Ray's names."""
        shape = self._shape
        return {"CPU": count * shape.cpus, "GPU": count * shape.gpus, "memory": count * float(shape.memory_bytes or 0)}

    def _unplaced(self) -> list[Member]:
        import ray

        if not self.members:
            return []
        _, pending = ray.wait([m.placed for m in self.members], num_returns=len(self.members), timeout=0)
        return [member for member in self.members if member.placed in pending]

    def _asked(self) -> str:
        import ray

        asked, has = _amounts(self.demand(1)), _amounts(ray.cluster_resources())
        where = "".join(f", on nodes labelled {name}={value}" for name, value in self._shape.labels)
        return f"A worker was asked for with {asked}{where}; the cluster has {has}. Ask for less, or add nodes."


def fits(demand: Mapping[str, float]) -> bool:
    """Whether the whole cluster, if it were idle, has that much."""
    import ray

    has = ray.cluster_resources()
    return all(amount <= has.get(name, 0.0) + 1e-6 for name, amount in demand.items())


def reason_of(error: Exception) -> str:
    """Why a worker died, on one line, without the identifiers that Ray lists, and with what helps, where we know."""
    name = type(error).__name__
    lines = [line for line in str(error).splitlines() if not line.startswith("\t")]
    hints = [hint for mark, hint in _HINTS.items() if mark in f"{name}: {error}"]
    return " ".join([shorten(f"{name}: {' '.join(lines)}", _REASON_CHARACTERS, placeholder=" …"), *hints])


def went_with_its_node(error: Exception) -> bool:
    """Whether Ray reports that the node died. Otherwise `LossAttribution` finds out: a worker may die before its node.

    Of a worker that had not answered yet, nothing else tells which node it was on.
    """
    return _NODE_DIED in str(error)


def _amounts(resources: Mapping[str, float]) -> str:
    gib = resources.get("memory", 0.0) / 2**30
    return f"{resources.get('CPU', 0.0):g} CPU, {resources.get('GPU', 0.0):g} GPU, {gib:.1f} GiB memory"
