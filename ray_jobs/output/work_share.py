"""How much of a run's work is done, from the parts that lie in storage.

Work is counted in images to embed, since embedding takes most of the time of most jobs. The other stages are weighted
by their usual cost, so a share is an estimate.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cluster import Store
from ray_jobs.output.layout import CHEAP_PREDICTIONS, GAPS, PREDICTIONS, prediction_parts, present_parts
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
    state: RunState = "measuring"
    if plan.kind == "evaluation":
        done, escalated = len(present_parts(store, plan.cells)), 0.0
    else:
        state, done, escalated = _labelling(folder, plan, files)
    if done or state == "escalating":
        labelled = 1.0 if state == "escalating" else _fraction(done, plan.parts)
        return Progress(state, done, plan.parts, _share(plan.work, 1.0, 1.0, labelled, escalated))
    examples, embedded = (len(present_parts(store, parts)) for parts in (plan.example_parts, plan.features))
    shares = _fraction(examples, len(plan.example_parts)), _fraction(embedded, len(plan.features))
    return Progress("embedding", embedded, len(plan.features), _share(plan.work, *shares, 0.0, 0.0))


def _labelling(folder: str, plan: RunPlan, files: Collection[str]) -> tuple[RunState, int, float]:
    """Return whether a run labels or escalates, how many parts of that are there, and the share of the escalation."""
    cheap, done = (
        sum(part in files for part in prediction_parts(f"{folder}/{name}", plan.features))
        for name in (CHEAP_PREDICTIONS, PREDICTIONS)
    )
    if not cheap or cheap < plan.parts:
        return "labelling", done or cheap, 0.0
    if done or f"{folder}/{GAPS}" in files:
        return "escalating", done, MERGING + (1 - MERGING) * _fraction(done, plan.parts)
    return "escalating", done, SCORING if _count(files, f"{folder}/noise-errors/") else 0.0


def _share(work: PlannedWork | None, examples: float, archive: float, results: float, escalated: float) -> float | None:
    if work is None or not work.total:
        return None
    done = examples * work.examples + archive * work.archive + results * work.results + escalated * work.escalation
    return min(1.0, done / work.total)


def _fraction(done: int, parts: int) -> float:
    return done / parts if parts else 1.0


def _count(files: Collection[str], prefix: str) -> int:
    return sum(path.startswith(prefix) for path in files)
