"""List the objects of a run by its folder, its plan and its metrics, and find those that are missing or damaged."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from cluster import ClusterError, StorageError, Store
from ray_jobs.errors import JobError
from ray_jobs.output.classifiers import open_classifier
from ray_jobs.output.known_examples import identify_known_examples, known_examples_path
from ray_jobs.output.label_set_examples import examples_path, load_examples
from ray_jobs.output.layout import (
    CARD,
    FAILURES,
    JOB,
    METRICS,
    PLAN,
    PREDICTIONS,
    present_parts,
)
from ray_jobs.output.runs import RunMetrics, read_metrics, read_plan
from ray_jobs.output.stored_objects import is_of_one_object, is_of_run, is_table
from ray_jobs.results.classification_metrics import ClassificationMetrics
from ray_jobs.results.evaluation_result import EvaluationResult
from ray_jobs.results.json_format import FormatError, NewerFormatError, OlderFormatError
from ray_jobs.results.run_plan import RunPlan

MISSING = "it is missing"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunObjects:
    """The objects of a run. Paths are relative to the output.

    Attributes:
        folder: of the run.
        plan: None if it cannot be read.
        own: objects of this run alone.
        shared: its features, predictions, cells and classifier, which other runs may have as well.
        digests: by path, digests of objects that hold none.
        problems: by path, what listing and documents show.
        is_foreign: whether another version wrote the run; its objects are then not listed.
    """

    folder: str
    plan: RunPlan | None
    own: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    is_foreign: bool = False

    @property
    def paths(self) -> Iterator[str]:
        """All objects, also those that are missing."""
        yield from (*self.own, *self.shared, *self.problems)


def list_objects(store: Store, folder: str) -> RunObjects:
    """List the objects of a run.

    Args:
        store: the output.
        folder: of the run.

    Raises:
        StorageError: storage does not respond.
    """
    sizes = store.sizes(folder)
    own = tuple(path for path in sizes if is_of_run(path.removeprefix(f"{folder}/")))
    plan_path, metrics_path = f"{folder}/{PLAN}", f"{folder}/{METRICS}"
    try:
        plan, problem = _read(lambda: read_plan(store, folder))
        kind = "evaluation" if plan is None else plan.kind  # Only an evaluation has tables, which its metrics name.
        metrics, unread = _read(lambda: read_metrics(store, folder, kind))
    except (NewerFormatError, OlderFormatError) as error:
        return RunObjects(folder, None, problems={plan_path: str(error)}, is_foreign=True)
    if plan is None:
        run = RunObjects(folder, None, own, problems={plan_path: problem or MISSING})
        return _with_tables(run, metrics, sizes)
    run = RunObjects(folder, plan, own, problems={} if unread is None else {metrics_path: unread})
    run = _with_tables(run, metrics, sizes)
    for other in sorted({posixpath.dirname(part) for part in plan.predictions} - {f"{folder}/{PREDICTIONS}"}):
        sizes |= store.sizes(other)
    return _with_shared(store, _with_documents(run, plan, metrics, sizes), plan, metrics)


def _read(read: Callable[[], T]) -> tuple[T | None, str | None]:
    """Return a document, or what is wrong with it.

    Raises:
        NewerFormatError, OlderFormatError: another version wrote it.
    """
    try:
        return read(), None
    except (NewerFormatError, OlderFormatError):
        raise
    except (FormatError, PermissionError) as error:
        return None, str(error)
    except StorageError as error:
        if not is_of_one_object(error):
            raise
        return None, str(error)


def _with_tables(run: RunObjects, metrics: RunMetrics | None, sizes: Mapping[str, int]) -> RunObjects:
    """Add the tables of an evaluation with their digests."""
    if not isinstance(metrics, EvaluationResult):
        return run
    digests = {f"{run.folder}/{name}": expected for name, expected in metrics.files.items() if is_table(name)}
    missing = {path: MISSING for path in digests if path not in sizes}
    own = dict.fromkeys([*run.own, *(path for path in digests if path in sizes)])
    return replace(run, own=tuple(own), digests=digests, problems={**run.problems, **missing})


def _with_documents(run: RunObjects, plan: RunPlan, metrics: RunMetrics | None, sizes: Mapping[str, int]) -> RunObjects:
    """Compare the listings of a run's folder and of its predictions with its plan and its metrics."""
    predictions, named = plan.predictions, frozenset(plan.predictions)
    own = [path for path in run.own if path in named or not posixpath.dirname(path).endswith(PREDICTIONS)]
    problems = dict(run.problems)
    required = [f"{run.folder}/{JOB}"]
    if isinstance(metrics, ClassificationMetrics):
        required += [f"{run.folder}/{FAILURES}", *predictions]
        recorded = zip(predictions, metrics.part_bytes, strict=False)
        problems |= {
            path: f"it has {sizes[path]} bytes, expected {expected}"
            for path, expected in recorded
            if path in sizes and sizes[path] != expected
        }
    if metrics is not None and metrics.complete:
        problems |= {path: MISSING for path in required if path not in sizes}
    return replace(run, own=tuple(own), problems=problems)


def _with_shared(store: Store, run: RunObjects, plan: RunPlan, metrics: RunMetrics | None) -> RunObjects:
    """Add what a run shares: its features and predictions as far as they are there, its cells and its classifier.

    Features are only needed to make predictions, and may be removed once they are made.
    """
    is_complete = metrics is not None and metrics.complete
    predictions = [part for part in plan.predictions if not part.startswith(f"{run.folder}/")]
    shared = present_parts(store, [*plan.features, *plan.cheap_predictions, *predictions])
    shared += plan.cells if is_complete else present_parts(store, plan.cells)
    if plan.classifier is None:
        return replace(run, shared=tuple(shared))
    if "://" in plan.classifier or Path(plan.classifier).is_absolute():
        found = _problems_elsewhere(store, plan)
        return replace(run, shared=tuple(shared), problems={**run.problems, **found})
    files = [f"{plan.classifier}/{CARD}"]
    files += [] if plan.label_set_error is None else [examples_path(plan.classifier)]
    files += [] if plan.unknown_rate is None else [known_examples_path(plan.classifier)]
    return replace(run, shared=(*shared, *(path for path in files if is_complete or store.exists(path))))


def _problems_elsewhere(store: Store, plan: RunPlan) -> dict[str, str]:
    """Read a classifier outside this output with what its run used, and return what is wrong with it, by its URL."""
    classifier = plan.classifier or ""
    try:
        found = open_classifier(classifier, store.storage)
        if plan.label_set_error is not None:
            load_examples(found.store, found.folder, found.classes, is_own=False)
        if plan.unknown_rate is not None:
            identify_known_examples(found.store, found.folder)
    except FileNotFoundError:
        return {known_examples_path(classifier): MISSING}
    except (JobError, ClusterError) as error:
        return {classifier: str(error)}
    return {}
