"""What lies in an output, as `fewshot status` and `fewshot report` print it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ray_jobs.results.json_format import JsonObject, JsonValue
from ray_jobs.results.run_plan import RunKind
from ray_jobs.results.schedule_results import ScheduleStatus
from ray_jobs.results.stage_load import StageLoad

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
        newest: whether it was begun or resumed last among the runs of the output.
        running: whether its process shows signs of life. A run that is neither running nor complete has stopped.
        sign_of_life_s: seconds since the last sign of life of its process; None where there is none, or storage does
            not report times.
        share: of the whole job that is done, in [0, 1]: examples and escalation are part of it. An estimate; None for
            an unreadable run, or one that an older version planned.
        doing: what its process did at the last sign of life; None if that is not known.
        per_second: units of that which it finished a second; None if that is not known.
        unit: abbreviation of the unit.
        seconds_left: estimate of the time left: while it embeds of the whole job, later of what it is doing; None if
            that is not known.
        embedding: how busy the stages of embedding were; None if nothing was embedded, and of all but the newest run.
        resume: command that goes on with a run that has stopped; None if it is running, complete or unreadable.
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
    newest: bool = False
    running: bool = False
    sign_of_life_s: float | None = None
    share: float | None = None
    doing: str | None = None
    per_second: float | None = None
    unit: str | None = None
    seconds_left: float | None = None
    embedding: StageLoad | None = None
    resume: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputStatus(JsonValue):
    """How far the runs of an output are.

    Attributes:
        output: URL of the output.
        runs: by name.
        below: outputs in the folders below, where this one has no run.
        schedules: of jobs that a scheduler runs or ran on some machine; left out where there is none.
    """

    output: str
    runs: tuple[RunStatus, ...]
    below: tuple[str, ...] = ()
    schedules: tuple[ScheduleStatus, ...] = ()

    def to_json(self) -> JsonObject:
        """Return the fields."""
        values = JsonValue.to_json(self)
        return values if self.schedules else {key: value for key, value in values.items() if key != "schedules"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport(JsonValue):
    """Where the report of a run lies.

    Attributes:
        run: name of the run's folder.
        path: URL of the page; None if it could not be written.
        classes: URL of the table of the pages of its classes; None where none were asked for.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"classes"})
    run: str
    path: str | None
    classes: str | None = None


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
