"""How far the runs of an output are, from what lies in storage: nothing has to be running, or reachable."""

from __future__ import annotations

import posixpath
from collections.abc import Collection

from cluster import Storage, Store, lease_owner
from cluster.errors import DamagedLeaseError
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.output.layout import CHEAP_PREDICTIONS, LEASE, PREDICTIONS, prediction_parts
from ray_jobs.output.runs import Run, UnreadableRun, find_runs, open_output, outputs_below
from ray_jobs.results.classification_metrics import ClassificationMetrics
from ray_jobs.results.output_status import OutputStatus, RunState, RunStatus


def read_status(output: str, storage: Storage = DEFAULT_STORAGE) -> OutputStatus:
    """Look at an output. Parts are counted only for runs that are not complete.

    Args:
        output: any fsspec URL.
        storage: how S3 is reached.

    Raises:
        JobError: nothing can be looked up there.
        StorageError: storage does not respond any more.
    """
    store = open_output(output, storage)
    runs = tuple(_status(store, run) for run in find_runs(store))
    return OutputStatus(output=store.root, runs=runs, below=() if runs else tuple(outputs_below(store)))


def _status(store: Store, run: Run | UnreadableRun) -> RunStatus:
    if isinstance(run, UnreadableRun):
        return RunStatus(run=run.name, state="unreadable", problem=run.problem)
    state, done, parts = _progress(store, run)
    listed = None if run.plan.archive is None else run.plan.archive.images
    metrics = run.metrics if isinstance(run.metrics, ClassificationMetrics) else None
    measured = None if metrics is None else metrics.measured
    return RunStatus(
        run=run.name,
        state=state,
        kind=run.kind,
        job=run.job,
        parts=f"{done}/{parts}",
        images=listed if metrics is None else metrics.images,
        examples=run.plan.examples,
        classes=run.plan.classes,
        accuracy=None if measured is None else measured.accuracy,
        process=_owner(store, run),
    )


def _owner(store: Store, run: Run) -> str | None:
    """Return the process that has the run, or that nobody can tell."""
    try:
        owner = lease_owner(store, f"{run.folder}/{LEASE}")
    except DamagedLeaseError as error:
        return str(error)
    return None if owner is None else str(owner)


def _progress(store: Store, run: Run) -> tuple[RunState, int, int]:
    """Return the state of a run, how many parts of that state are there, and how many there will be."""
    total = run.plan.parts
    if run.is_complete:
        return "complete", total, total
    state, done = _measuring(store, run) if run.kind == "evaluation" else _labelling(store, run)
    if run.metrics is not None:
        return "incomplete", done, total
    if done or state == "escalating":
        return state, done, total
    return "embedding", _present(store, run.plan.features), len(run.plan.features)


def _measuring(store: Store, run: Run) -> tuple[RunState, int]:
    return "measuring", _present(store, run.plan.cells)


def _labelling(store: Store, run: Run) -> tuple[RunState, int]:
    """Whether a run labels with its classifier or escalates, and how many parts of that are there."""
    cheap_predictions, done = (
        _present(store, prediction_parts(f"{run.folder}/{name}", run.plan.features))
        for name in (CHEAP_PREDICTIONS, PREDICTIONS)
    )
    if cheap_predictions and cheap_predictions == run.plan.parts:
        return "escalating", done
    return "labelling", done or cheap_predictions


def _present(store: Store, parts: Collection[str]) -> int:
    """How many of these parts there are."""
    folders = {posixpath.dirname(part) for part in parts}
    return len({path for folder in folders for path in store.list(folder)}.intersection(parts))
