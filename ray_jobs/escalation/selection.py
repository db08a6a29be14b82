"""The choice of images to escalate, and of the classes to score for each: the least certain first, within a budget."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from cluster import Store
from ray_jobs.output.feature_parts import get_table, write_parquet

SCHEMA = pa.schema(
    [
        pa.field("certainty", pa.float32()),
        pa.field("image", pa.string()),
        pa.field("part", pa.int64()),
        pa.field("row", pa.int64()),
        pa.field("score", pa.float32()),
        pa.field("candidates", pa.list_(pa.string())),
        pa.field("label", pa.string()),
    ]
)
"""Of the stored selection: a row for each escalated image."""
COLUMNS = ["image", "score", "margin", "top_labels", "status"]
UNESCALATED = ("unreadable", "unknown")
"""Statuses of images that no choice among the classes is made for."""


@dataclass(frozen=True, slots=True, order=True)
class EscalationCandidate:
    """An image that may be escalated. Candidates sort by certainty, then by name.

    Attributes:
        certainty: the score of the cheap prediction, in [0, 1]; its margin where the classifier gives no scores.
        image: its key.
        part: number of the part of predictions that it is in.
        row: in the part.
        candidates: labels of the classes to score, the most probable first.
        label: of the cheap prediction; not among `candidates` if the diffusion method cannot score it.
        score: of the cheap prediction, in [0, 1]; None where the classifier gives none.
    """

    certainty: float
    image: str
    part: int
    row: int
    candidates: tuple[str, ...]
    label: str
    score: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of escalation, and upper bounds of its costs, in forwards of the UNet.

    Attributes:
        images: number of images, at most.
        forwards: in total, training included; None for no limit.
        training_cost: number of classes -> cost of training their adapters.
        per_calibration: cost of scoring the held-out examples of one class.
        per_query: cost of scoring one class of one image.
        per_image: other costs of an image (its latents).
    """

    images: int
    forwards: float | None
    training_cost: Callable[[int], float]
    per_calibration: float
    per_query: float
    per_image: float


def find_candidates(
    store: Store, parts: Sequence[str], *, below: float | None, candidates: int
) -> Iterator[EscalationCandidate]:
    """Yield the images of prediction parts that are uncertain, and that have at least two possible classes.

    Unknown images have none.

    Args:
        store: where the parts are.
        parts: prediction parts, in the archive's order.
        below: of the score, >= 0; infinity takes every image, and so does any limit where the classifier gives no
            scores. None takes the images whose labels are withheld.
        candidates: classes of an image, at most.
    """
    for index, part in enumerate(parts):
        rows = get_table(store, part, columns=COLUMNS).to_pydict()
        columns = (rows[name] for name in COLUMNS)
        for row, (image, score, margin, labels, status) in enumerate(zip(*columns, strict=True)):
            if status not in UNESCALATED and _is_uncertain(score, status, below) and len(labels) > 1:
                certainty, classes = margin if score is None else score, tuple(labels[:candidates])
                yield EscalationCandidate(certainty, image, index, row, classes, labels[0], score)


def _is_uncertain(score: float | None, status: str, below: float | None) -> bool:
    if below is None:
        return status == "abstained"
    return score is None or score < below


def select_affordable(
    images: Iterable[EscalationCandidate], budget: Budget, trained: frozenset[str]
) -> list[EscalationCandidate]:
    """Select the least certain images that the budget pays for, each with all its classes, in the order of certainty.

    Costs are upper bounds: every class scored at every time-step. So the budget is never exceeded, and the first image
    that would exceed it ends the selection: no more certain image takes its place.

    Args:
        images: in any order.
        budget: limits and costs.
        trained: classes with trained adapters.
    """
    selected: list[EscalationCandidate] = []
    classes, scoring = set[str](), 0.0
    for image in heapq.nsmallest(budget.images, images):
        classes |= set(image.candidates)
        scoring += len(image.candidates) * budget.per_query + budget.per_image
        spent = scoring + len(classes) * budget.per_calibration + budget.training_cost(len(classes - trained))
        if budget.forwards is not None and spent > budget.forwards:
            break
        selected.append(image)
    return selected


def selection_to_parquet(selected: Sequence[EscalationCandidate]) -> bytes:
    """Return a selection as stored with the run."""
    columns = {name: [getattr(image, name) for image in selected] for name in SCHEMA.names}
    columns["candidates"] = [list(labels) for labels in columns["candidates"]]
    return write_parquet(pa.table(columns, schema=SCHEMA))


def get_selection(store: Store, path: str) -> list[EscalationCandidate]:
    """Read a selection.

    Raises:
        DamagedError: it is damaged, and was removed.
        FileNotFoundError: there is none.
    """
    rows = get_table(store, path, columns=SCHEMA.names).to_pylist()
    return [EscalationCandidate(**row | {"candidates": tuple(row["candidates"])}) for row in rows]
