"""How much of a run's work is done, from the parts that lie in storage.

Work is counted in images to embed, since embedding takes most of the time of most jobs. The other stages are weighted
by their usual cost, so a share is an estimate.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cluster import Store
from ray_jobs.output.layout import GAPS, present_parts
from ray_jobs.results.output_status import RunState
from ray_jobs.results.run_plan import PlannedWork, RunPlan

LABEL_WORK = 0.02
"""Of labelling an image."""
CELL_WORK = 0.5
"""Of all cells of an evaluation, for each image that it embeds."""
UNKNOWN_SHARD_IMAGES = 1000
"""Images assumed in a shard whose number of images is known only once it is read."""
SCORING, MERGING = 0.5, 0.9
"""Shares of an escalation that are done when its images are being scored, and when they are being merged: how many
rounds of scoring there will be is not known."""


def classification_work(*, examples: float, images: int | None, shards: int, escalation: float) -> PlannedWork:
    """Return the work of a classification.

    Args:
        examples: views of examples to embed.
        images: of the archive; None where only reading it tells.
        shards: of the archive.
        escalation: in images to embed that take as long.
    """
    archive = float(shards * UNKNOWN_SHARD_IMAGES if images is None else images)
    return PlannedWork(examples=examples, archive=archive, results=LABEL_WORK * archive, escalation=escalation)


def evaluation_work(*, images: float) -> PlannedWork:
    """Return the work of an evaluation of this many images (views count)."""
    return PlannedWork(examples=0.0, archive=images, results=CELL_WORK * images, escalation=0.0)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an unfinished run is.

    Attributes:
        state: what it does, or did when it stopped.
        done: parts of that state that are there.
        parts: parts of that state that there will be.
        share: of the whole job that is done, in [0, 1]; None for a run that an older version planned.
    """

    state: RunState
    done: int
    parts: int
    share: float | None


def measure_progress(store: Store, folder: str, plan: RunPlan, files: Collection[str]) -> Progress:
    """Measure how far an unfinished run is.

    Args:
        store: the output.
        folder: of the run.
        plan: of the run.
        files: everything in the run's folder, listed before.
    """
    if plan.kind == "evaluation":
        return _measuring(store, plan)
    labels = plan.cheap_predictions or plan.predictions
    labelled = frozenset(present_parts(store, labels))
    if len(labelled) < plan.parts:
        return _labelling(store, plan, labels, labelled)
    if not plan.cheap_predictions:
        return Progress("labelling", plan.parts, plan.parts, _share(plan.work, 1.0, 1.0, 1.0, 0.0))
    done, escalated = _escalating(folder, plan, files)
    return Progress("escalating", done, plan.parts, _share(plan.work, 1.0, 1.0, 1.0, escalated))


def _measuring(store: Store, plan: RunPlan) -> Progress:
    """Return how far an evaluation is."""
    if done := len(present_parts(store, plan.cells)):
        return Progress("measuring", done, plan.parts, _share(plan.work, 1.0, 1.0, _fraction(done, plan.parts), 0.0))
    embedded, parts = len(present_parts(store, plan.features)), len(plan.features)
    return Progress("embedding", embedded, parts, _share(plan.work, 1.0, _fraction(embedded, parts), 0.0, 0.0))


def _labelling(store: Store, plan: RunPlan, labels: Sequence[str], labelled: Collection[str]) -> Progress:
    """Return how far a classification is whose images are not all labelled.

    A shard whose predictions are there needs no features: another run may have made them, and features may be removed.
    """
    present = frozenset(present_parts(store, plan.features))
    pairs = zip(plan.features, labels, strict=True)
    embedded = sum(features in present or label in labelled for features, label in pairs)
    shares = _fraction(embedded, plan.parts), _fraction(len(labelled), plan.parts)
    if labelled and embedded == plan.parts:
        return Progress("labelling", len(labelled), plan.parts, _share(plan.work, 1.0, *shares, 0.0))
    examples = _fraction(len(present_parts(store, plan.example_parts)), len(plan.example_parts))
    return Progress("embedding", embedded, plan.parts, _share(plan.work, examples, *shares, 0.0))


def _escalating(folder: str, plan: RunPlan, files: Collection[str]) -> tuple[int, float]:
    """Return the parts of an escalation that are there, and the share of it that is done."""
    done = sum(part in files for part in plan.predictions)
    if done or f"{folder}/{GAPS}" in files:
        return done, MERGING + (1 - MERGING) * _fraction(done, plan.parts)
    return 0, SCORING if _count(files, f"{folder}/noise-errors/") else 0.0


def _share(work: PlannedWork | None, examples: float, archive: float, results: float, escalated: float) -> float | None:
    if work is None or not work.total:
        return None
    done = examples * work.examples + archive * work.archive + results * work.results + escalated * work.escalation
    return min(1.0, done / work.total)


def _fraction(done: int, parts: int) -> float:
    return done / parts if parts else 1.0


def _count(files: Collection[str], prefix: str) -> int:
    return sum(path.startswith(prefix) for path in files)
