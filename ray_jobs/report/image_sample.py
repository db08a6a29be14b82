"""Which images of a run are shown: the surest and the least sure of a few shards spread evenly over the archive.

A page can show some dozens of an archive's images; to find good ones, a bounded number is looked at, so that a report
costs the same however large the archive is. The choice depends on nothing but the run.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster import Store
from ray_jobs.output.layout import PREDICTIONS, shard_of_prediction

SHARDS = 6
"""Shards that are looked into."""
ROWS = 200
"""Images at the beginning of a shard that are looked at: no more of a large tar has to be read again."""
SHOWN = 24
"""Images of a group."""
COLUMNS = ["image", "score", "top_labels", "top_scores", "status"]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an image is: the fingerprint of its shard, and its position there."""

    shard: str
    index: int


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image with a score, as its prediction tells.

    Attributes:
        spot: where it is.
        image: its key.
        label: the best guess.
        score: its calibrated probability.
        second: the second guess with its score; None where only one is listed.
        abstained: whether the label is withheld.
    """

    spot: Spot
    image: str
    label: str
    score: float
    second: tuple[str, float] | None
    abstained: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """What is shown.

    Attributes:
        sure: the highest scores, highest first.
        unsure: the lowest scores, lowest first; none of them is in `sure`.
        images: how many were looked at.
    """

    sure: tuple[Labelled, ...]
    unsure: tuple[Labelled, ...]
    images: int

    @property
    def places(self) -> list[tuple[Spot, str]]:
        """Of the images to show, with their keys."""
        return [(row.spot, row.image) for row in (*self.sure, *self.unsure)]


def by_shard(places: Iterable[tuple[Spot, str]]) -> dict[str, dict[int, str]]:
    """The images to show: shard -> position there -> key."""
    found: dict[str, dict[int, str]] = {}
    for spot, image in places:
        found.setdefault(spot.shard, {})[spot.index] = image
    return found


def draw_sample(store: Store, run: str) -> Sample:
    """Choose what to show of a run's predictions."""
    parts = evenly(list(store.list(f"{run}/{PREDICTIONS}")), SHARDS)
    rows: list[Labelled] = []
    images = 0
    for part in parts:
        table = pq.read_table(io.BytesIO(store.get(part)), columns=COLUMNS).slice(0, ROWS)
        images += len(table)
        rows += _extremes(table, shard_of_prediction(part))
    rows.sort(key=lambda row: -row.score)
    sure = min(SHOWN, (len(rows) + 1) // 2)
    return Sample(tuple(rows[:sure]), tuple(rows[sure:][: -SHOWN - 1 : -1]), images)


def evenly(items: list[str], count: int) -> list[str]:
    """At most `count` of the items, spread evenly, the first and the last among them."""
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _extremes(table: pa.Table, shard: str) -> list[Labelled]:
    """The images of one part with the highest and with the lowest scores, in the part's order.

    What could not be read, and what was decided without a score, is neither.
    """
    read = table.append_column("index", pa.array(range(len(table)), pa.int64())).filter(pc.is_valid(table["score"]))
    order = pc.sort_indices(read, sort_keys=[("score", "descending"), ("index", "ascending")]).to_pylist()
    chosen = sorted({*order[:SHOWN], *order[-SHOWN:]})
    return [_labelled(row, shard) for row in read.take(pa.array(chosen, pa.int64())).to_pylist()]


def _labelled(row: Mapping[str, Any], shard: str) -> Labelled:
    labels, scores = row["top_labels"], row["top_scores"]
    return Labelled(
        spot=Spot(shard, row["index"]),
        image=row["image"],
        label=labels[0],
        score=row["score"],
        second=(labels[1], scores[1]) if len(labels) > 1 else None,
        abstained=row["status"] == "abstained",
    )
