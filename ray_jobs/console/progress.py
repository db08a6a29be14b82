"""Live progress on stderr, of each stage and of the whole job: bars on a terminal, lines every few seconds in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from ray_jobs.console.rate import IMAGES, Rate, rate_text
from ray_jobs.console.sanitize import sanitized
from ray_jobs.console.waiting import announced, finish_loading

if TYPE_CHECKING:
    from cluster import Event, WorkersReady
    from ray_jobs.results.run_work import StageWork

LOG_EVERY_S = 10.0
"""Seconds between lines in a log."""


@dataclass(slots=True)
class JobWork:
    """The work of a job, stage by stage.

    Attributes:
        title: name of the job's command.
        stages: by title, in their order, the work of each, in units that take equally long. One that is shown under
            other titles, such as rounds of it, counts when those before it are done.
    """

    title: str
    stages: Mapping[str, float]
    _longest: float = 0.0
    _pace_s: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.stages.values())

    @property
    def is_shown(self) -> bool:
        """Whether there is more to show than one stage."""
        return sum(work > 0 for work in self.stages.values()) > 1

    def done(self, stage: str, fraction: float) -> float:
        """Return the work that is done when a fraction, in [0, 1], of a stage is; stages before it have ended."""
        titles = list(self.stages)
        before = titles.index(stage) if stage in self.stages else len(titles) - 1
        within = fraction * self.stages[stage] if stage in self.stages else 0.0
        return sum(self.stages[title] for title in titles[:before]) + within

    def left(self, stage: str, fraction: float, left: timedelta | None) -> timedelta | None:
        """Return the time for the rest of the job, in whole seconds: later stages at the pace of the longest so far.

        Args:
            stage: that runs.
            fraction: of it that is done, in [0, 1].
            left: time for the rest of the stage; None if it is not known.

        Returns:
            None where the stage says nothing about the others.
        """
        work = self.stages.get(stage, 0.0)
        if left is None or fraction >= 1.0 or not work:
            return None
        if work >= self._longest:
            self._longest, self._pace_s = work, left.total_seconds() / ((1.0 - fraction) * work)
        later = self.total - self.done(stage, 1.0)
        return timedelta(seconds=round(left.total_seconds() + later * self._pace_s))


class _StateColumn(ProgressColumn):
    """What a bar stands for, in words."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["state"](), style="progress.remaining")


def _joined(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


class Reporter:
    """Messages and progress of a job on stderr.

    Args:
        console: where they are written; None takes stderr.
        clock: seconds, of any origin.

    Attributes:
        finished: what the stages took that computed something, in order.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        finish_loading()
        self._clock = clock
        self._check: Callable[[], None] = lambda: None
        self._doing: str | None = None
        self._display: _Display | None = None
        self._job: JobWork | None = None
        self.finished: list[StageWork] = []
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

    def say(self, message: str, style: str | None = None) -> None:
        """Print a line, sanitized and without interpreting markup in it.

        Args:
            message: the line.
            style: of rich, such as "red".
        """
        self.console.print(sanitized(message), style=style)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Print what is done in the context, if it takes longer than a moment.

        Args:
            what: a phrase, such as "reading the archive".
        """
        with self.doing(what), announced(what, self.say):
            yield

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Note what is done in the context, for other processes; nothing is printed."""
        self._doing, before = what, self._doing
        try:
            yield
        finally:
            self._doing = before

    def note(self) -> dict[str, str | float | None]:
        """Return what is done now, for other processes: see `RunStatus`. May be called in any thread."""
        return {"doing": self._doing} if self._display is None else self._display.note()

    @contextmanager
    def job(self, title: str, stages: Mapping[str, float]) -> Iterator[None]:
        """Show the progress of a whole job beside that of its stages, which run in the context.

        Args:
            title: name of the command.
            stages: see `JobWork`.
        """
        work = JobWork(title, stages)
        self._job, before = work if work.is_shown else None, self._job
        try:
            yield
        finally:
            self._job = before

    @contextmanager
    def stage(
        self, title: str, total: float | None, *, unit: str = IMAGES, at_first: str = "starting workers, loading models"
    ) -> Iterator[Callable[[Event], None]]:
        """Show a stage while it runs.

        Args:
            title: name of the stage.
            total: weight of all units, finished ones included; None if unknown.
            unit: abbreviation of the unit that the weights count.
            at_first: what is done until the first event.

        Yields:
            a function to call with every event.
        """
        kind = _Bar if self.console.is_terminal else _Lines
        with kind(self.console, title, total, Rate(self._clock, unit), self._job) as display, ExitStack() as starting:
            starting.enter_context(announced(f"{title}: {at_first}", self.say))
            self._display = display

            def on_event(event: Event) -> None:
                self._check()
                if not isinstance(event, _skipped()):
                    starting.close()
                display.on_event(event)

            try:
                yield on_event
                if (work := display.work()) is not None:
                    self.finished.append(work)
            finally:
                self._display = None

    @contextmanager
    def checking(self, check: Callable[[], None]) -> Iterator[None]:
        """Call a function before every event in the context; its exceptions stop the stage."""
        self._check, before = check, self._check
        try:
            yield
        finally:
            self._check = before


def _skipped() -> type:
    from cluster import UnitSkipped  # Here, because it takes long.

    return UnitSkipped


class _Display:
    """Count the events of a stage; subclasses show the counts."""

    def __init__(self, console: Console, title: str, total: float | None, rate: Rate, job: JobWork | None) -> None:
        self.console, self.title, self.total, self.rate, self.job = console, title, total, rate, job
        self.completed, self.workers, self.retried, self.failed = 0.0, 0, 0, 0
        self.computed, self.began_at = 0.0, rate.clock()
        self.ready: tuple[float, WorkersReady] | None = None

    def on_event(self, event: Event) -> None:
        from cluster import UnitDone, UnitFailed, UnitSkipped, WorkerLost, WorkersReady  # Here, because it takes long.

        match event:
            case WorkersReady(count=count, where=where):
                self.ready = self.rate.clock(), event
                self.rate.start()
                self.workers = count
                self.console.print(f"{self.title}: {_counted(count, 'worker')} on {where}")
            case UnitSkipped(weight=weight):
                self.completed += weight
            case UnitDone(weight=weight, seconds=seconds):
                self.completed += weight
                self.computed += weight
                self.rate.add(weight, seconds)
            case UnitFailed(path=path, error=error):
                self.failed += 1
                self.console.print(sanitized(f"failed: {path}: {error.strip().splitlines()[-1]}"), style="red")
            case WorkerLost(reason=reason, units=units):
                self.retried += len(units)
                self.console.print(sanitized(f"worker lost, its work goes to a new one: {reason}"), style="yellow")
        self.refresh()

    def work(self) -> StageWork | None:
        """Return what the stage took; None if nothing was left to compute."""
        from ray_jobs.results.run_work import StageWork  # Here, because it takes long.

        if self.ready is None:
            return None
        now, (ready_at, workers) = self.rate.clock(), self.ready
        worker_s = workers.count * (now - ready_at)
        return StageWork(
            stage=self.title,
            unit=self.rate.unit,
            done=self.computed,
            seconds=now - self.began_at,
            workers=workers.count,
            where=workers.where,
            worker_s=worker_s,
            cpu_s=workers.cpus * worker_s,
            gpu_s=workers.gpus * worker_s,
        )

    @property
    def left(self) -> timedelta | None:
        """Time for the rest of the stage; None if it is not known."""
        return None if self.total is None else self.rate.left(max(0.0, self.total - self.completed))

    def stage_text(self) -> str:
        """Return how far the stage is: done of all, rate, time left, workers, and what went wrong."""
        return _joined(f"{self._amount()} {self.rate.unit}", self._pace(), self._workers())

    def job_text(self) -> str:
        """Return how far the job is; "" for a stage alone, or one of unknown length."""
        if self.job is None or not self.total:
            return ""
        fraction = min(1.0, self.completed / self.total)
        left = self.job.left(self.title, fraction, self.left)
        share = self.job.done(self.title, fraction) / self.job.total
        return _joined(f"{100 * share:.0f} % done", None if left is None else f"{left} left")

    def note(self) -> dict[str, str | float | None]:
        """Return the stage, its rate, and the seconds left of it."""
        left = self.left
        return {
            "doing": self.title,
            "unit": self.rate.unit,
            "per_second": self.rate.per_second,
            "seconds_left": None if left is None else left.total_seconds(),
        }

    def refresh(self) -> None:
        raise NotImplementedError

    def _amount(self) -> str:
        return f"{self.completed:.0f}" + (f"/{self.total:.0f}" if self.total else "")

    def _pace(self) -> str:
        """Return the rate and, if the amount of work left is known, the time left."""
        if self.rate.per_second is None:
            return "starting"
        left = None if self.left is None else f"{self.left} left"
        return _joined(rate_text(self.rate.per_second, self.rate.unit), left)

    def _workers(self) -> str:
        """Return how many workers there are, and how many units were run again or given up."""
        return _joined(
            _counted(self.workers, "worker") if self.workers else None,
            f"{_counted(self.retried, 'unit')} retried" if self.retried else None,
            f"{_counted(self.failed, 'unit')} failed" if self.failed else None,
        )


class _Bar(_Display):
    def __init__(self, console: Console, title: str, total: float | None, rate: Rate, job: JobWork | None) -> None:
        super().__init__(console, title, total, rate, job)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), _StateColumn())
        self.progress = Progress(*columns, console=console, transient=False)
        self.task = self.progress.add_task(title, total=total, state=self.stage_text)
        self.whole = self.progress.add_task(job.title, total=job.total, state=self.job_text) if job and total else None

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.refresh()
        if self.whole is not None:  # The bar of the job goes on below that of the next stage.
            self.progress.update(self.whole, visible=False)
        self.progress.stop()

    def refresh(self) -> None:
        self.progress.update(self.task, completed=self.completed)
        if self.whole is not None and self.job is not None and self.total:
            done = self.job.done(self.title, min(1.0, self.completed / self.total))
            self.progress.update(self.whole, completed=done)


class _Lines(_Display):
    last = 0.0

    def __enter__(self) -> Self:
        self.last = self.rate.clock()
        return self

    def __exit__(self, *_: object) -> None:
        if self.completed:
            self._print(f"{self.title}: {self._amount()} {self.rate.unit}, done")

    def refresh(self) -> None:
        if self.rate.clock() - self.last >= LOG_EVERY_S:
            self._print(f"{self.title}: {self.stage_text()}")
            if self.job is not None and (text := self.job_text()):
                self._print(f"{self.job.title}: {text}")

    def _print(self, line: str) -> None:
        self.last = self.rate.clock()
        self.console.print(line)
