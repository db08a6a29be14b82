"""The images of a run that are shown: the most and the least certain of a few shards spread evenly over the archive.

A page has room for some dozens of images. They are chosen from a bounded number, so that a report costs the same for an
archive of any size. The choice depends on nothing but the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster import Store
from ray_jobs.output.feature_parts import view_table
from ray_jobs.output.layout import Spot, shard_of
from ray_jobs.output.predictions import UNKNOWN_P_VALUE

SHARDS = 6
"""Shards that images are chosen from."""
ROWS = 200
"""Images at the beginning of a shard that may be chosen: no more of a large tar has to be read again."""
SHOWN = 24
"""Images of a group."""
CANDIDATES = 4 * SHOWN
"""Images of a shard that may be among the most certain, and as many among the least certain."""
COLUMNS = ["image", "score", "margin", "top_labels", "top_scores", "decided_by", "status"]


NEAR_DUPLICATE = 0.97
"""Cosine of the features above which two images are nearly the same; as in `fewshot.suggestion`, which loads torch."""
Directions = Mapping[Spot, NDArray[np.float32]]
"""By position, the features of images: [D] float32, unit rows."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image that the classifier decided.

    Attributes:
        spot: its position.
        image: its key.
        label: the most probable class.
        certainty: what images are sorted by: the score; the margin, where the classifier gives no scores.
        score: the calibrated probability of `label`; None where there is none.
        second: the second class with its score; None if only one is listed.
        abstained: whether the label is withheld.
    """

    spot: Spot
    image: str
    label: str
    certainty: float
    score: float | None
    second: tuple[str, float | None] | None
    abstained: bool


@dataclass(frozen=True, slots=True)
class UnknownImage:
    """An image of no class.

    Attributes:
        spot: its position.
        image: its key.
        label: the most probable class all the same.
        p_value: of the hypothesis that it is of one of the classes, in (0, 1].
    """

    spot: Spot
    image: str
    label: str
    p_value: float


@dataclass(frozen=True, slots=True)
class Sample:
    """The images that are shown.

    Attributes:
        sure: the most certain ones, the most certain first.
        unsure: the least certain ones, the least certain first; none of them is in `sure`.
        images: number of images they were chosen from.
        copies: images that would be in `sure` or `unsure` if they were not nearly the same as one that is.
        unknown: unknown images, which are in none of these, the lowest p-values first.
    """

    sure: tuple[Labelled, ...]
    unsure: tuple[Labelled, ...]
    images: int
    unknown: tuple[UnknownImage, ...] = ()
    copies: int = 0

    @property
    def spots(self) -> list[tuple[Spot, str]]:
        """Positions of these images, with their keys."""
        shown: tuple[Labelled | UnknownImage, ...] = (*self.sure, *self.unsure, *self.unknown)
        return [(row.spot, row.image) for row in shown]


def by_shard(spots: Iterable[tuple[Spot, str]]) -> dict[str, dict[int, str]]:
    """Return images by position: shard -> row there -> key."""
    found: dict[str, dict[int, str]] = {}
    for spot, image in spots:
        found.setdefault(spot.shard, {})[spot.row] = image
    return found


def draw_sample(
    store: Store,
    predictions: Sequence[str],
    classifier: str,
    *,
    has_scores: bool,
    unknown: bool = False,
    directions: Directions | None = None,
) -> Sample:
    """Choose the images to show from the parts of a run's predictions.

    Args:
        store: the output.
        predictions: the parts, in the archive's order.
        classifier: method of the classifier; what another one decided has its own certainty, and is not compared.
        has_scores: whether the classifier gives scores; if not, images are sorted by their margins.
        unknown: whether the run tested for images of no class.
        directions: features of these images: of those that are nearly the same, one is shown. None shows all.
    """
    directions = directions or {}
    rows: list[Labelled] = []
    others: list[UnknownImage] = []
    images = 0
    for part in evenly(predictions, SHARDS):
        columns = [*COLUMNS, UNKNOWN_P_VALUE.name] if unknown else COLUMNS
        table = view_table(store, part, columns=columns).slice(0, ROWS)
        images += len(table)
        rows += _extremes(table, shard_of(part), classifier, has_scores=has_scores)
        others += _unknown(table, shard_of(part)) if unknown else []
    rows.sort(key=lambda row: -row.certainty)
    others.sort(key=lambda row: row.p_value)
    half = (len(rows) + 1) // 2
    sure, of_sure = without_copies(rows[:half], directions, SHOWN)
    unsure, of_unsure = without_copies(rows[half:][::-1], directions, SHOWN)
    return Sample(tuple(sure), tuple(unsure), images, tuple(others[:SHOWN]), of_sure + of_unsure)


def without_copies(rows: Sequence[Labelled], directions: Directions, count: int) -> tuple[list[Labelled], int]:
    """Return the first images of which none is nearly the same as another, and how many copies were passed over.

    Args:
        rows: in order.
        directions: their features; an image without any is taken for unique.
        count: of images, at most.
    """
    chosen: list[Labelled] = []
    taken: list[NDArray[np.float32]] = []
    copies = 0
    for row in rows:
        if len(chosen) == count:
            break
        if (direction := directions.get(row.spot)) is not None:
            if taken and float((np.stack(taken) @ direction).max()) > NEAR_DUPLICATE:
                copies += 1
                continue
            taken.append(direction)
        chosen.append(row)
    return chosen, copies


def evenly(items: Sequence[str], count: int) -> Sequence[str]:
    """Return at most `count` of the items, spread evenly, the first and the last among them."""
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _extremes(table: pa.Table, shard: str, classifier: str, *, has_scores: bool) -> list[Labelled]:
    """Return the most and the least certain images of a part, in the order of the part.

    Images without a score (unreadable, or decided without one) are not among them; or, without any scores, those that
    the classifier did not decide. Nor are unknown ones.
    """
    certainty = table["score" if has_scores else "margin"]
    listed = _numbered(table).append_column("certainty", certainty)
    is_compared = pc.is_valid(certainty) if has_scores else pc.equal(table["decided_by"], classifier)
    read = listed.filter(pc.and_(is_compared, pc.not_equal(table["status"], "unknown")))
    order = pc.sort_indices(read, sort_keys=[("certainty", "descending"), ("index", "ascending")]).to_pylist()
    chosen = sorted({*order[:CANDIDATES], *order[-CANDIDATES:]})
    return [labelled_image(row, shard) for row in read.take(pa.array(chosen, pa.int64())).to_pylist()]


def _unknown(table: pa.Table, shard: str) -> list[UnknownImage]:
    """Return the unknown images of a part, in its order."""
    rows = _numbered(table).filter(pc.equal(table["status"], "unknown")).to_pylist()
    return [
        UnknownImage(Spot(shard, row["index"]), row["image"], row["top_labels"][0], row[UNKNOWN_P_VALUE.name])
        for row in rows
    ]


def _numbered(table: pa.Table) -> pa.Table:
    """Return the table with the numbers of its rows in a column more, `index`."""
    return table.append_column("index", pa.array(range(len(table)), pa.int64()))


def labelled_image(row: Mapping[str, Any], shard: str) -> Labelled:
    """Return an image from its row of `COLUMNS`, with its number ("index") and "certainty" there."""
    labels, scores = row["top_labels"], row["top_scores"] or [None] * len(row["top_labels"])
    return Labelled(
        spot=Spot(shard, row["index"]),
        image=row["image"],
        label=labels[0],
        certainty=row["certainty"],
        score=row["score"],
        second=(labels[1], scores[1]) if len(labels) > 1 else None,
        abstained=row["status"] == "abstained",
    )
