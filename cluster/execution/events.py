"""Events of an executor while a stage runs: the only source of progress and reports; logs are never parsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WorkersReady:
    """The first worker is ready for units.

    `count` is the requested number of workers, `where` names the machines, `cpus` and `gpus` are those of a worker.
    """

    count: int
    where: str
    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class UnitSkipped:
    """The unit's part is already in storage."""

    path: str
    weight: int


@dataclass(frozen=True, slots=True)
class UnitDone:
    """The unit's part is committed.

    `seconds` is the time from start to commit on the worker, `busy_s` that of the worker's stages, see `Part`.
    """

    path: str
    weight: int
    summary: Mapping[str, float]
    seconds: float
    busy_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnitFailed:
    """The unit raised an error, or lost its worker too often. The stage continues without it."""

    path: str
    weight: int
    error: str
    attempts: int


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker died; its units run again on another one."""

    reason: str
    units: tuple[str, ...]


Event = WorkersReady | UnitSkipped | UnitDone | UnitFailed | WorkerLost
