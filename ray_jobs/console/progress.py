"""Live progress on stderr: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from ray_jobs.console.sanitize import sanitized
from ray_jobs.console.waiting import announced, finish_loading

if TYPE_CHECKING:
    from cluster import Event

LOG_EVERY_S = 10.0
"""Seconds between lines in a log."""
IMAGES = "img"
"""Unit of the stages that count images."""
WINDOW_S = 120.0
"""Seconds over which the rate is averaged."""


@dataclass(slots=True)
class Rate:
    """Images a second over the last two minutes, and the time left at that rate.

    Only work of this run counts, so the estimate after a resume is as good as before.

    Attributes:
        clock: seconds, of any origin.
        unit: abbreviation of the unit that is counted.
    """

    clock: Callable[[], float] = time.monotonic
    unit: str = IMAGES
    _marks: deque[tuple[float, float]] = field(default_factory=deque)
    _done: float = 0.0

    def start(self) -> None:
        """Begin to measure; the time before was start-up."""
        if not self._marks:
            self._marks.append((self.clock(), self._done))

    def add(self, weight: float) -> None:
        """Count work done."""
        self._done += weight
        self._marks.append((self.clock(), self._done))
        while len(self._marks) > 2 and self._marks[-1][0] - self._marks[0][0] > WINDOW_S:
            self._marks.popleft()

    @property
    def per_second(self) -> float | None:
        """Return units a second; None before any work was done."""
        if len(self._marks) < 2 or self._marks[-1][0] <= self._marks[0][0]:
            return None
        (first, before), (last, after) = self._marks[0], self._marks[-1]
        return (after - before) / (last - first)

    def left(self, weight: float) -> timedelta | None:
        """Return the time for this much work, in whole seconds; None before any work was done."""
        rate = self.per_second
        return timedelta(seconds=round(weight / rate)) if rate else None


class _RateColumn(ProgressColumn):
    """Images a second and the time left."""

    def __init__(self, rate: Rate) -> None:
        super().__init__()
        self._rate = rate

    def render(self, task: Task) -> Text:
        return Text(_rate_text(self._rate, task.remaining), style="progress.remaining")


def rate_text(per_second: float, unit: str) -> str:
    """Return a rate, with two digits where it is below one a second."""
    return f"{per_second:{'.1f' if per_second >= 1 else '.2g'}} {unit}/s"


def _rate_text(rate: Rate, left: float | None) -> str:
    """Return the rate and, if the amount of work left is known, the time left."""
    if rate.per_second is None:
        return "starting"
    return rate_text(rate.per_second, rate.unit) + ("" if left is None else f", {rate.left(left)} left")


class Reporter:
    """Messages and progress of a job on stderr.

    Args:
        console: where they are written; None takes stderr.
        clock: seconds, of any origin.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        finish_loading()
        self._clock = clock
        self._check: Callable[[], None] = lambda: None
        self._doing: str | None = None
        self._display: _Display | None = None
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
    def stage(self, title: str, total: float | None, *, unit: str = IMAGES) -> Iterator[Callable[[Event], None]]:
        """Show a stage while it runs.

        Args:
            title: name of the stage.
            total: weight of all units, finished ones included; None if unknown.
            unit: abbreviation of the unit that the weights count.

        Yields:
            a function to call with every event.
        """
        kind = _Bar if self.console.is_terminal else _Lines
        with kind(self.console, title, total, Rate(self._clock, unit)) as display, ExitStack() as starting:
            starting.enter_context(announced(f"{title}: starting workers, loading models", self.say))
            self._display = display

            def on_event(event: Event) -> None:
                self._check()
                if not isinstance(event, _skipped()):
                    starting.close()
                display.on_event(event)

            try:
                yield on_event
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

    def __init__(self, console: Console, title: str, total: float | None, rate: Rate) -> None:
        self.console, self.title, self.total, self.rate = console, title, total, rate
        self.completed, self.failed, self.lost = 0.0, 0, 0

    def on_event(self, event: Event) -> None:
        from cluster import UnitDone, UnitFailed, UnitSkipped, WorkerLost, WorkersReady  # Here, because it takes long.

        match event:
            case WorkersReady(count=count, where=where):
                self.rate.start()
                self.console.print(f"{self.title}: {count} worker{'s' * (count != 1)} on {where}")
            case UnitSkipped(weight=weight):
                self.completed += weight
            case UnitDone(weight=weight):
                self.completed += weight
                self.rate.add(weight)
            case UnitFailed(path=path, error=error):
                self.failed += 1
                self.console.print(sanitized(f"failed: {path}: {error.strip().splitlines()[-1]}"), style="red")
            case WorkerLost(reason=reason):
                self.lost += 1
                self.console.print(sanitized(f"worker lost, its work goes to a new one: {reason}"), style="yellow")
        self.refresh()

    def note(self) -> dict[str, str | float | None]:
        """Return the stage, its rate, and the seconds left of it."""
        left = None if self.total is None else self.rate.left(self.total - self.completed)
        return {
            "doing": self.title,
            "unit": self.rate.unit,
            "per_second": self.rate.per_second,
            "seconds_left": None if left is None else left.total_seconds(),
        }

    def refresh(self) -> None:
        raise NotImplementedError


class _Bar(_Display):
    def __init__(self, console: Console, title: str, total: float | None, rate: Rate) -> None:
        super().__init__(console, title, total, rate)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.progress = Progress(*columns, _RateColumn(self.rate), console=console, transient=False)
        self.task = self.progress.add_task(title, total=total)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def refresh(self) -> None:
        self.progress.update(self.task, completed=self.completed)


class _Lines(_Display):
    last = 0.0

    def __enter__(self) -> Self:
        self.last = self.rate.clock()
        return self

    def __exit__(self, *_: object) -> None:
        if self.completed:
            self._line("done")

    def refresh(self) -> None:
        if self.rate.clock() - self.last >= LOG_EVERY_S:
            self._line(_rate_text(self.rate, None if self.total is None else self.total - self.completed))

    def _line(self, state: str) -> None:
        self.last = self.rate.clock()
        total = f"/{self.total:.0f}" if self.total else ""
        self.console.print(f"{self.title}: {self.completed:.0f}{total}, {state}")
