"""The description of work: a step, the units it is mapped over, and the part that each unit produces.

A step is a small picklable value. Heavy state (a model on a GPU) is loaded in `setup`, once for each worker, and passed
to every `run`. A unit's path contains a fingerprint of everything that determines its bytes, so a unit is done if an
object of that name exists.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of work, retried and committed as a whole.

    Attributes:
        path: where its part is committed, relative to the store. It contains a fingerprint of everything that
            determines the bytes, so an existing object of this name is this unit's result.
        payload: input of `Step.run`: small and picklable, keys and numbers, never pixels or weights.
        weight: its share of the progress bar, in the unit that the stage counts (images).
        needs: what a worker reads for it and may keep. An executor prefers workers that had it for earlier units; that
            changes no byte.
    """

    path: str
    payload: Any
    weight: int = 1
    needs: tuple[Hashable, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """The result of one unit.

    Attributes:
        data: the complete content of the committed object; a pure function of the unit.
        summary: counts that the driver adds up over units, for progress and reports.
        busy_s: by stage of the worker, seconds that it was busy since the worker's last part, with whatever units. Not
            a function of the unit.
    """

    data: bytes
    summary: Mapping[str, float] = field(default_factory=dict)
    busy_s: Mapping[str, float] = field(default_factory=dict, compare=False)


class Step(Protocol):
    """A picklable, hashable value that sets up a worker and runs units on it.

    Equal steps are the same work: an executor keeps its workers alive between stages with equal steps.
    """

    def setup(self) -> Any:
        """Load the state that a worker keeps for its lifetime. An exception stops the stage: no worker could start."""
        ...

    def run(self, state: Any, payload: Any) -> Part:
        """Compute one unit. May be called from `Workers.overlap` threads at once.

        An exception marks the unit as failed and is not retried (it would be raised again), except
        `cluster.errors.StorageError`, which is.
        """
        ...


@runtime_checkable
class SplitStep(Step, Protocol):
    """A step whose units begin with work that needs CPUs but not the state: reading and decoding before a forward.

    Helpers on other machines can do that first part. The bytes are the same either way: `run(state, payload)` equals
    `run_prepared(state, payload, prepare(tools(state), payload))`.
    """

    def tools(self, state: Any) -> Any:
        """Return the part of the state that `prepare` needs: small and picklable."""
        ...

    def prepare(self, tools: Any, payload: Any) -> Any:
        """Do the first part of a unit. The result is sent to the worker; numpy arrays are sent without a copy."""
        ...

    def run_prepared(self, state: Any, payload: Any, prepared: Any) -> Part:
        """Do the rest of a unit. Arrays in `prepared` may be read-only."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Helpers:
    """Resources for the first part of a `SplitStep`. Other steps and executors on one machine use no helpers.

    Attributes:
        count: maximum number of units that are prepared at a time, >= 1. At most three times as many are being
            prepared, or prepared and not on a worker yet, which bounds their memory in the cluster.
        cpus: logical CPUs for each unit that is being prepared, > 0.
        labels: (label, value) pairs of the nodes to use; without any, nodes without GPUs are preferred.
    """

    count: int
    cpus: float = 1.0
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """The number of workers of a stage, and the resources of each.

    Attributes:
        count: maximum number of workers, >= 1. Work begins with those that the cluster has room for; others are added
            as nodes join.
        cpus: logical CPUs of a worker, >= 0.
        gpus: GPUs of a worker; fractions share one GPU.
        memory_bytes: memory that a worker reserves, so that workers on a node do not exceed its memory; None reserves
            nothing. A reservation, not a limit.
        labels: (label, value) pairs of the nodes that workers may run on, in any order; without any, on all.
        overlap: units that run in one worker at a time, >= 1. With 2, the next unit reads and decodes while the first
            one uses the device.
        max_attempts: number of workers that may die with a unit before it is given up, >= 1.
        helpers: prepare units for the workers; with None, workers run whole units.
    """

    count: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int | None = None
    labels: tuple[tuple[str, str], ...] = ()
    overlap: int = 2
    max_attempts: int = 4
    helpers: Helpers | None = None
