"""A stage: one step over all of its units, with a report at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from cluster.execution.events import Event, UnitDone, UnitFailed, UnitSkipped, WorkerLost
from cluster.execution.executor import Executor
from cluster.execution.step import Step, Unit, Workers
from cluster.storage.store import Ledger


@dataclass(frozen=True, slots=True)
class StageReport:
    """The outcome of a stage. Weights are in the unit that the stage counts (images).

    Attributes:
        done: number of units computed and committed by this run.
        skipped: number of units committed before.
        failed: number of units given up; each is in `failures`.
        weight_done: weight of the units done.
        weight_skipped: weight of the units skipped.
        weight_failed: weight of the units failed.
        summary: sums of the summaries of the units done. Skipped units have none: counts that must include them are
            read from the parts.
        failures: one event for each failed unit, sorted by path.
        workers_lost: number of workers that died.
        busy_s: sums of the busy seconds of the workers' stages, see `Part`.
        units_s: sum of the seconds that the units done took on their workers, from start to commit.
    """

    done: int
    skipped: int
    failed: int
    weight_done: int
    weight_skipped: int
    weight_failed: int
    summary: Mapping[str, float]
    failures: tuple[UnitFailed, ...]
    workers_lost: int
    busy_s: Mapping[str, float] = field(default_factory=dict)
    units_s: float = 0.0


def run_stage(
    executor: Executor,
    step: Step,
    units: Iterable[Unit],
    ledger: Ledger,
    workers: Workers,
    on_event: Callable[[Event], None] = lambda _: None,
) -> StageReport:
    """Run a step over all of its units, after removing stale files from their folders.

    Args:
        executor: runs the step.
        step: the work.
        units: pulled lazily; only failures are kept in memory.
        ledger: where parts are committed.
        workers: the number of workers, and the resources of each.
        on_event: called with every event as it happens. An exception that it raises stops the work.

    Raises:
        ClusterError: the stage could not continue; see `Executor.run`.
    """
    counts: Counter[type] = Counter()
    weights: Counter[type] = Counter()
    summary: Counter[str] = Counter()
    busy_s: Counter[str] = Counter()
    units_s = 0.0
    failures: list[UnitFailed] = []
    with closing(executor.run(step, _with_clean_folders(units, ledger), ledger, workers)) as events:
        for event in events:
            on_event(event)
            counts[type(event)] += 1
            if isinstance(event, UnitDone | UnitSkipped | UnitFailed):
                weights[type(event)] += event.weight
            if isinstance(event, UnitDone):
                summary.update(event.summary)
                busy_s.update(event.busy_s)
                units_s += event.seconds
            if isinstance(event, UnitFailed):
                failures.append(event)
    return StageReport(
        done=counts[UnitDone],
        skipped=counts[UnitSkipped],
        failed=counts[UnitFailed],
        weight_done=weights[UnitDone],
        weight_skipped=weights[UnitSkipped],
        weight_failed=weights[UnitFailed],
        summary=dict(summary),
        failures=tuple(sorted(failures, key=lambda failure: failure.path)),
        workers_lost=counts[WorkerLost],
        busy_s=dict(busy_s),
        units_s=units_s,
    )


def _with_clean_folders(units: Iterable[Unit], ledger: Ledger) -> Iterator[Unit]:
    """Yield the units; before the first unit of a folder, remove the stale files of killed writers there."""
    seen = set()
    for unit in units:
        folder = PurePosixPath(unit.path).parent.as_posix()
        if folder not in seen:
            seen.add(folder)
            ledger.remove_stale_files("" if folder == "." else folder)
        yield unit
