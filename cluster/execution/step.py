"""The words that work is described with: a step, the units it maps over, the part each unit leaves behind.

A step is a small picklable value. Whatever is heavy (a model on a GPU) appears in `setup`, once for each worker, and
is handed to every `run`. A unit is named after everything that determines its bytes, so that "is it done?" is the
question whether an object of that name exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of work, retried and committed as a whole.

    Attributes:
        path: where its part is committed, relative to the store. It contains a fingerprint of all that determines
            the bytes, so an existing object of this name is this unit's result.
        payload: what `Step.run` needs: small and picklable, keys and numbers, never pixels or weights.
        weight: its share of the progress bar, in whatever the stage counts (images).
    """

    path: str
    payload: Any
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Part:
    """What one unit leaves behind.

    Attributes:
        data: the complete content of the object that is committed; a pure function of the unit.
        summary: counts that the driver adds up over units, for progress and reports.
    """

    data: bytes
    summary: Mapping[str, float] = field(default_factory=dict)


class Step(Protocol):
    """A picklable, hashable value that knows how to start a worker and how to run a unit on it.

    Two equal steps are the same work: an executor keeps its workers alive between stages whose steps are equal.
    """

    def setup(self) -> Any:
        """Load what a worker keeps for its whole life. An exception here stops the stage: it would fail everywhere."""
        ...

    def run(self, state: Any, payload: Any) -> Part:
        """Compute one unit. May be called from `Workers.overlap` threads at once.

        An exception here marks the unit as failed and is not retried (it would be raised again), except
        `cluster.errors.StorageError`, which is.
        """
        ...


@runtime_checkable
class SplitStep(Step, Protocol):
    """A step whose units begin with work that needs CPUs but not the state: reading and decoding, before a forward.

    Helpers on other machines can do that part. Whoever does it, the bytes are the same: `run(state, payload)` equals
    `run_prepared(state, payload, prepare(tools(state), payload))`.
    """

    def tools(self, state: Any) -> Any:
        """What `prepare` needs to know of the state: small and picklable."""
        ...

    def prepare(self, tools: Any, payload: Any) -> Any:
        """Do the first part of a unit. What it returns travels: numpy arrays do so without being copied."""
        ...

    def run_prepared(self, state: Any, payload: Any, prepared: Any) -> Part:
        """Do the rest. Arrays in `prepared` may be read-only."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Helpers:
    """Who does the first part of a `SplitStep`. Other steps use none, and neither does an executor on one machine.

    Attributes:
        count: the most units that are prepared at a time, >= 1. At most three times as many are being prepared, or
            prepared and not taken by a worker yet: that bounds what lies in the cluster's memory.
        cpus: logical CPUs that preparing a unit occupies, > 0.
        labels: (label, value) pairs of the nodes to do it on; without any, nodes without GPUs are preferred.
    """

    count: int
    cpus: float = 1.0
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """How many workers a stage may use and what each of them occupies.

    Attributes:
        count: the most workers, >= 1. Work begins with those that the cluster has room for; others join as nodes do.
        cpus: logical CPUs a worker occupies, >= 0.
        gpus: GPUs a worker occupies; fractions share one GPU.
        memory_bytes: memory a worker reserves, so that no more of them share a node than it has memory for; None
            reserves nothing. It is a reservation and no limit.
        labels: (label, value) pairs of the nodes that workers may run on, in any order; without any, on all.
        overlap: units that run in one worker at a time, >= 1. With 2, the next unit reads and decodes while the
            first one owns the device.
        max_attempts: workers a unit may take down before it is given up, >= 1.
        helpers: who prepares units for the workers; None leaves all of a unit to its worker.
    """

    count: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int | None = None
    labels: tuple[tuple[str, str], ...] = ()
    overlap: int = 2
    max_attempts: int = 4
    helpers: Helpers | None = None
