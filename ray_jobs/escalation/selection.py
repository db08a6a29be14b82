"""Which images the diffusion model is asked about, among which classes: the least certain first, within a budget."""

from __future__ import annotations

import heapq
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from cluster import Store
from ray_jobs.output.feature_parts import get_table

SCHEMA = pa.schema(
    [
        pa.field("image", pa.string()),
        pa.field("part", pa.int64()),
        pa.field("row", pa.int64()),
        pa.field("score", pa.float32()),
        pa.field("candidates", pa.list_(pa.string())),
        pa.field("label", pa.string()),
    ]
)
COLUMNS = ["image", "score", "top_labels", "status"]


@dataclass(frozen=True, slots=True, order=True)
class EscalationCandidates:
    """An image that the cheap method is not sure of. They sort by score, then by name.

    Attributes:
        score: the cheap method's, in [0, 1].
        image: its key.
        part: which part of predictions it is in.
        row: where in the part.
        candidates: labels of the classes that are still possible, the likeliest first.
        label: what the cheap method says; it is no candidate where the method that is asked cannot answer for it.
    """

    score: float
    image: str
    part: int
    row: int
    candidates: tuple[str, ...]
    label: str


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent, in forwards of the UNet.

    Attributes:
        images: at most this many images.
        forwards: all together, training included; None is no limit.
        learning: what training so many classes costs at most.
        per_calibration: what asking about the examples of one class costs at most.
        per_query: what asking one class about one image costs at most.
        per_image: what else an image costs (its latents).
    """

    images: int
    forwards: float | None
    learning: Callable[[int], float]
    per_calibration: float
    per_query: float
    per_image: float


def find_candidates(
    store: Store, parts: Sequence[str], *, below: float, candidates: int
) -> Iterator[EscalationCandidates]:
    """Images of prediction parts whose score is below a limit, and that have at least two possible classes.

    Args:
        store: where the parts are.
        parts: prediction parts, in the archive's order.
        below: the limit, >= 0; infinity takes them all.
        candidates: classes of an image, at most.
    """
    for index, part in enumerate(parts):
        rows = get_table(store, part, columns=COLUMNS).to_pydict()
        columns = (rows[name] for name in COLUMNS)
        for row, (image, score, labels, status) in enumerate(zip(*columns, strict=True)):
            if status != "unreadable" and score < below and len(labels) > 1:
                yield EscalationCandidates(score, image, index, row, tuple(labels[:candidates]), labels[0])


def affordable(
    images: Iterable[EscalationCandidates], budget: Budget, trained: frozenset[str]
) -> list[EscalationCandidates]:
    """The least certain images that the budget pays for, each with all its classes, in the order of certainty.

    What they cost is bounded from above: every class asked about every time-step. So the budget is never overrun, and
    an image that would overrun it ends the choice: nothing more certain is asked about in its place.

    Args:
        images: in any order.
        budget: what may be spent.
        trained: classes whose adapters exist already.
    """
    chosen: list[EscalationCandidates] = []
    known, asking = set[str](), 0.0
    for image in heapq.nsmallest(budget.images, images):
        known |= set(image.candidates)
        asking += len(image.candidates) * budget.per_query + budget.per_image
        spent = asking + len(known) * budget.per_calibration + budget.learning(len(known - trained))
        if budget.forwards is not None and spent > budget.forwards:
            break
        chosen.append(image)
    return chosen


def to_parquet(chosen: Sequence[EscalationCandidates]) -> bytes:
    """The choice as it is kept with the run."""
    columns = {name: [getattr(image, name) for image in chosen] for name in SCHEMA.names}
    columns["candidates"] = [list(labels) for labels in columns["candidates"]]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()


def get_choice(store: Store, path: str) -> list[EscalationCandidates]:
    """What `to_parquet` made, from storage.

    Raises:
        DamagedError: it is damaged, and was removed.
        FileNotFoundError: there is none.
    """
    rows = get_table(store, path, columns=SCHEMA.names).to_pylist()
    return [EscalationCandidates(**row | {"candidates": tuple(row["candidates"])}) for row in rows]
