"""Find what a finished run has lost, by a listing of each of its folders: missing objects, and resized parts."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from cluster import Store
from ray_jobs.output.damage_list import DAMAGE_LIST, first_and_count
from ray_jobs.output.layout import FAILURES, GAPS, JOB, PLAN
from ray_jobs.output.runs import read_plan
from ray_jobs.results.classification_metrics import ClassificationMetrics
from ray_jobs.results.json_format import FormatError, NewerFormatError


@dataclass(frozen=True, slots=True)
class Losses:
    """What a finished run has lost. Paths are relative to the output.

    Attributes:
        missing: objects that are not there.
        resized: parts of predictions that have another length than was recorded.
        unreadable: documents that cannot be read.
        is_noted: whether `fewshot verify` found damage.
    """

    missing: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    is_noted: bool = False

    def __bool__(self) -> bool:
        """Whether there is anything to make anew."""
        return bool(self.missing or self.resized or self.unreadable or self.is_noted)

    def lines(self, store: Store) -> list[str]:
        """Return a line for each kind of loss."""
        kinds = (
            (self.missing, "missing from the finished run"),
            (self.resized, "of another length than was recorded"),
            (self.unreadable, "damaged"),
        )
        return [f"{what}, made anew: {first_and_count(store, paths)}" for paths, what in kinds if paths]


def find_losses(store: Store, run: str, predictions: Sequence[str], metrics: ClassificationMetrics) -> Losses:
    """Compare the objects of a finished run with the listings of its folder and of the one of its predictions.

    Args:
        store: the output.
        run: the run's folder.
        predictions: the parts of predictions that the run has, in the archive's order.
        metrics: of the run.

    Raises:
        NewerFormatError: a newer version of fewshot wrote its plan.
        StorageError: storage does not respond.
    """
    sizes = store.sizes(run)
    for folder in {posixpath.dirname(part) for part in predictions if not part.startswith(f"{run}/")}:
        sizes |= store.sizes(folder)
    documents = [f"{run}/{name}" for name in (PLAN, JOB, FAILURES, *([] if metrics.escalated is None else [GAPS]))]
    recorded = zip(predictions, metrics.part_bytes, strict=False)
    return Losses(
        missing=tuple(path for path in (*predictions, *documents) if path not in sizes),
        resized=tuple(path for path, size in recorded if sizes.get(path, size) != size),
        unreadable=_unreadable(store, run),
        is_noted=posixpath.join(run, DAMAGE_LIST) in sizes,
    )


def _unreadable(store: Store, run: str) -> tuple[str, ...]:
    """Return the path of the plan if it is damaged; `status` and the report need it."""
    try:
        read_plan(store, run)
    except NewerFormatError:
        raise
    except FormatError:
        return (f"{run}/{PLAN}",)
    return ()
