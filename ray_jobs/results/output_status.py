"""What lies in an output, as `fewshot status` and `fewshot report` print it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ray_jobs.results.json_format import JsonObject, JsonValue
from ray_jobs.results.run_plan import RunKind

RunState = Literal["complete", "incomplete", "embedding", "labelling", "escalating", "measuring", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus(JsonValue):
    """How far a run is.

    Attributes:
        run: name of its folder.
        state: "complete"; "incomplete" (finished with failures, run again); "embedding", "labelling", "escalating" or
            "measuring" (running, or stopped on the way: run again to resume); "unreadable" (see `problem`).
        kind: "classification" or "evaluation"; None if unreadable.
        job: name of the job; None if unreadable.
        parts: parts of that state that are there, and how many there will be: "3/7".
        images: of the archive; None where only reading the archive tells.
        examples: number of examples; None for an evaluation.
        classes: number of classes; None if unreadable.
        accuracy: against given labels, in [0, 1]; None if not measured.
        process: the process that holds the run, or held it when it was killed on another machine; None without one.
        problem: why the run is unreadable, and what to do; None if it is not.
    """

    run: str
    state: RunState
    kind: RunKind | None = None
    job: str | None = None
    parts: str | None = None
    images: int | None = None
    examples: int | None = None
    classes: int | None = None
    accuracy: float | None = None
    process: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputStatus(JsonValue):
    """How far the runs of an output are.

    Attributes:
        output: URL of the output.
        runs: by name.
        below: outputs in the folders below, where this one has no run.
    """

    output: str
    runs: tuple[RunStatus, ...]
    below: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport(JsonValue):
    """Where the report of a run lies.

    Attributes:
        run: name of the run's folder.
        path: URL of the page; None if it could not be written.
    """

    run: str
    path: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputReports(JsonValue):
    """Where the reports of an output lie.

    Attributes:
        output: URL of the output.
        reports: of every run that has finished.
        below: outputs in the folders below, where no run has finished.
    """

    output: str
    reports: tuple[RunReport, ...]
    below: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every report could be written."""
        return all(report.path for report in self.reports)

    def to_json(self) -> JsonObject:
        """Return the fields, and whether they are complete."""
        return {"output": self.output, "complete": self.complete, **JsonValue.to_json(self)}
