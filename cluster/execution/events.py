"""What an executor reports while a stage runs. The driver renders these; nothing else is ever parsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkersReady:
    """The first worker can run units. `count` workers were asked for."""

    count: int
    where: str


@dataclass(frozen=True, slots=True)
class UnitSkipped:
    """The unit's part is already in storage."""

    path: str
    weight: int


@dataclass(frozen=True, slots=True)
class UnitDone:
    """The unit's part is committed. `seconds` is the time between start and commit on the worker."""

    path: str
    weight: int
    summary: Mapping[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class UnitFailed:
    """The unit raised, or lost its worker too often. The stage goes on without it."""

    path: str
    weight: int
    error: str
    attempts: int


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker died; the units it held go to a fresh one."""

    reason: str
    units: tuple[str, ...]


Event = WorkersReady | UnitSkipped | UnitDone | UnitFailed | WorkerLost
