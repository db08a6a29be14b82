"""What the stages of a run took: images, time, workers and their hours. Measured, so not the same for every run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from ray_jobs.results.json_format import JsonDocument, JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class StageWork(JsonValue):
    """What a stage took, over all calls that finished it.

    Attributes:
        stage: its title.
        unit: abbreviation of what is counted.
        done: units that were computed; those that were there already are not among them.
        seconds: from its start to its end, starting workers included.
        workers: number of workers that it asked for.
        where: the machines, in words.
        worker_s: seconds of all of these workers, from when the first was ready: what was reserved, busy or not.
        cpu_s: the same of their CPUs.
        gpu_s: the same of their GPUs.
    """

    stage: str
    unit: str
    done: float
    seconds: float
    workers: int
    where: str
    worker_s: float
    cpu_s: float
    gpu_s: float

    def __add__(self, other: StageWork) -> StageWork:
        """Return the work of two calls."""
        return replace(
            self,
            done=self.done + other.done,
            seconds=self.seconds + other.seconds,
            workers=max(self.workers, other.workers),
            worker_s=self.worker_s + other.worker_s,
            cpu_s=self.cpu_s + other.cpu_s,
            gpu_s=self.gpu_s + other.gpu_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWork(JsonDocument):
    """The work of a run: its `work.json`.

    Attributes:
        calls: commands that finished the run, or went on with it; what was interrupted is not counted.
        stages: those that computed something, a row for each place where they ran.
    """

    format_version: ClassVar[int] = 1
    calls: int
    stages: tuple[StageWork, ...]

    def with_call(self, stages: Iterable[StageWork]) -> RunWork:
        """Return the work with that of one more call."""
        found = {(each.stage, each.where): each for each in self.stages}
        for each in stages:
            key = each.stage, each.where
            found[key] = found[key] + each if key in found else each
        return RunWork(calls=self.calls + 1, stages=tuple(found.values()))
