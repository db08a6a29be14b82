"""Live progress on stderr: a bar where somebody looks, a line every few seconds where a log is kept."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from cluster import Event, UnitDone, UnitFailed, UnitSkipped, WorkerLost, WorkersReady
from ray_jobs.console.sanitize import sanitized

LOG_EVERY_S = 10.0
WINDOW_S = 120.0


@dataclass(slots=True)
class Rate:
    """Images a second over the last two minutes, and what is left at that rate.

    Work that was found done counts for nothing: an estimate after a resume is as good as one before.

    Attributes:
        clock: seconds, of any origin.
        unit: what is counted.
    """

    clock: Callable[[], float] = time.monotonic
    unit: str = "img"
    _marks: deque[tuple[float, float]] = field(default_factory=deque)
    _done: float = 0.0

    def start(self) -> None:
        """Workers are ready: what came before was start-up."""
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
        """None before there is anything to judge from."""
        if len(self._marks) < 2 or self._marks[-1][0] <= self._marks[0][0]:
            return None
        (first, before), (last, after) = self._marks[0], self._marks[-1]
        return (after - before) / (last - first)

    def left(self, weight: float) -> timedelta | None:
        """Time for this much work."""
        rate = self.per_second
        return timedelta(seconds=round(weight / rate)) if rate else None


class _RateColumn(ProgressColumn):
    """Images a second and the time left."""

    def __init__(self, rate: Rate) -> None:
        super().__init__()
        self._rate = rate

    def render(self, task: Task) -> Text:
        return Text(_pace(self._rate, task.remaining), style="progress.remaining")


def _pace(rate: Rate, left: float | None) -> str:
    """How fast it goes, and how long what is left takes; None where nobody knows how much is left."""
    if rate.per_second is None:
        return "starting"
    return f"{rate.per_second:.1f} {rate.unit}/s" + ("" if left is None else f", {rate.left(left)} left")


class Reporter:
    """Where a job tells how it is going.

    Args:
        console: on stderr.
        clock: seconds, of any origin.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._check: Callable[[], None] = lambda: None
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

    def say(self, message: str, style: str | None = None) -> None:
        """One line. Names from outside may stand in it: nothing in it is taken for markup."""
        self.console.print(sanitized(message), style=style)

    @contextmanager
    def stage(self, title: str, total: float | None, *, unit: str = "img") -> Iterator[Callable[[Event], None]]:
        """Show a stage while it runs.

        Args:
            title: what is done.
            total: weight of all units, those already done included; None if nobody knows.
            unit: what the weights count.

        Yields:
            what to call with every event.
        """
        show = _Bar if self.console.is_terminal else _Lines
        with show(self.console, title, total, Rate(self._clock, unit)) as shown:

            def on_event(event: Event) -> None:
                self._check()
                shown.on_event(event)

            yield on_event

    @contextmanager
    def checking(self, check: Callable[[], None]) -> Iterator[None]:
        """Call this before every event; what it raises stops the stage."""
        self._check, before = check, self._check
        try:
            yield
        finally:
            self._check = before


class _Shown:
    """What both ways of showing a stage have in common: counting."""

    def __init__(self, console: Console, title: str, total: float | None, rate: Rate) -> None:
        self.console, self.title, self.total, self.rate = console, title, total, rate
        self.completed, self.failed, self.lost = 0.0, 0, 0

    def on_event(self, event: Event) -> None:
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
                self.console.print(sanitized(f"worker lost, its work goes to a fresh one: {reason}"), style="yellow")
        self.refresh()

    def refresh(self) -> None:
        raise NotImplementedError


class _Bar(_Shown):
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


class _Lines(_Shown):
    last = 0.0

    def __enter__(self) -> Self:
        self.last = self.rate.clock()
        return self

    def __exit__(self, *_: object) -> None:
        if self.completed:
            self._line("done")

    def refresh(self) -> None:
        if self.rate.clock() - self.last >= LOG_EVERY_S:
            self._line(_pace(self.rate, None if self.total is None else self.total - self.completed))

    def _line(self, what: str) -> None:
        self.last = self.rate.clock()
        total = f"/{self.total:.0f}" if self.total else ""
        self.console.print(f"{self.title}: {self.completed:.0f}{total}, {what}")
