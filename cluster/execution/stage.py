"""A stage: one step over all its units, watched and added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePosixPath

from cluster.execution.events import Event, UnitDone, UnitFailed, UnitSkipped, WorkerLost
from cluster.execution.executor import Executor
from cluster.execution.step import Step, Unit, Workers
from cluster.storage.store import Ledger


@dataclass(frozen=True, slots=True)
class StageReport:
    """What became of a stage's units. Weights are in whatever the stage counts (images).

    Attributes:
        done: units computed and committed by this run.
        skipped: units that were committed before.
        failed: units given up; each is in `failures`.
        weight_done: weight of the units done.
        weight_skipped: weight of the units skipped.
        weight_failed: weight of the units failed.
        summary: the summaries of the units done, added up. Skipped units have none: what must cover them, too, is
            read from the parts.
        failures: one event for each failed unit, sorted by path.
        workers_lost: workers that died.
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


def run_stage(
    executor: Executor,
    step: Step,
    units: Iterable[Unit],
    ledger: Ledger,
    workers: Workers,
    on_event: Callable[[Event], None] = lambda _: None,
) -> StageReport:
    """Run a step over its units to the end, in folders that are swept first.

    Args:
        executor: where to run it.
        step: the work.
        units: pulled lazily; only failures are remembered.
        ledger: where parts are committed.
        workers: how many, and what each occupies.
        on_event: called with every event as it happens. An exception of its own stops the work.

    Raises:
        ClusterError: the stage could not go on; see `Executor.run`.
    """
    counts: Counter[type] = Counter()
    weights: Counter[type] = Counter()
    summary: Counter[str] = Counter()
    failures: list[UnitFailed] = []
    with closing(executor.run(step, _swept(units, ledger), ledger, workers)) as events:
        for event in events:
            on_event(event)
            counts[type(event)] += 1
            if isinstance(event, UnitDone | UnitSkipped | UnitFailed):
                weights[type(event)] += event.weight
            if isinstance(event, UnitDone):
                summary.update(event.summary)
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
    )


def _swept(units: Iterable[Unit], ledger: Ledger) -> Iterator[Unit]:
    """The units; what killed writers left in a folder is removed when its first unit comes."""
    seen = set()
    for unit in units:
        folder = PurePosixPath(unit.path).parent.as_posix()
        if folder not in seen:
            seen.add(folder)
            ledger.remove_stale_files("" if folder == "." else folder)
        yield unit
