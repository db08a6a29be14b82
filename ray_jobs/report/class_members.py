"""The images of each predicted class: counts of all of them, and a bounded number of the most and the least certain.

The predictions are read once, as a stream. What is kept is bounded by the number of classes, not by that of the images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster import Store
from ray_jobs.output.feature_parts import view_table
from ray_jobs.output.layout import shard_of
from ray_jobs.report.image_sample import COLUMNS, Labelled, labelled_image

CLASSES = 2000
"""Classes with pages, the most frequent ones."""
IMAGES, OF_A_CLASS = 12_000, 240
"""Images on all pages together, and on the pages of one class, at most."""
BATCH = 1 << 16
"""Rows that are collected before the extremes of each class are chosen anew."""


@dataclass(frozen=True, slots=True)
class ClassMembers:
    """The images with one label, withheld labels counted.

    Attributes:
        name: of the class.
        images: number of them.
        withheld: of these, images whose label is withheld.
        mean_score: of those with a score; None without any.
        sure: the most certain ones, the most certain first.
        unsure: the least certain ones, the least certain last; none of them is in `sure`.
    """

    name: str
    images: int
    withheld: int
    mean_score: float | None
    sure: tuple[Labelled, ...]
    unsure: tuple[Labelled, ...]

    @property
    def shown(self) -> tuple[Labelled, ...]:
        """Images on the pages of the class, by falling certainty."""
        return self.sure + self.unsure

    @property
    def between(self) -> int:
        """Number of images that are less certain than `sure` and more certain than `unsure`."""
        return self.images - len(self.shown)


def images_of_a_class(classes: int) -> int:
    """Return how many images of each class are shown, an even number of 6 at least."""
    return 2 * max(3, min(OF_A_CLASS, IMAGES // max(1, classes)) // 2)


def find_members(store: Store, parts: Iterable[str], classes: Sequence[str], *, has_scores: bool) -> list[ClassMembers]:
    """Find the images of some classes.

    Args:
        store: the output.
        parts: of the predictions, in the archive's order, which decides between images that are as certain.
        classes: names of the classes.
        has_scores: whether the classifier gives scores; if not, images are sorted by their margins.

    Returns:
        one for each class, in their order, with at most `images_of_a_class` images.

    Raises:
        JobError: a part is damaged.
        StorageError: storage does not respond.
    """
    members = _Members(classes, half=images_of_a_class(len(classes)) // 2, has_scores=has_scores)
    for part in parts:
        members.add(view_table(store, part, columns=COLUMNS), shard_of(part))
    return list(members.result())


@dataclass
class _Members:
    """Counts of every class, and rows that may be among its extremes."""

    classes: Sequence[str]
    half: int
    has_scores: bool
    kept: list[pa.Table] = field(default_factory=list)
    images: NDArray[np.int64] = field(init=False)
    withheld: NDArray[np.int64] = field(init=False)
    scored: NDArray[np.int64] = field(init=False)
    scores: NDArray[np.float64] = field(init=False)
    _collected: int = 0

    def __post_init__(self) -> None:
        """Count from zero."""
        self.images, self.withheld, self.scored = (np.zeros(len(self.classes), np.int64) for _ in range(3))
        self.scores = np.zeros(len(self.classes))

    def add(self, table: pa.Table, shard: str) -> None:
        """Count the rows of a part, and collect them."""
        rows = pa.array(range(len(table)), pa.int64())
        numbered = table.append_column("index", rows).append_column("shard", pa.array([shard] * len(table)))
        decided = numbered.filter(pc.and_(pc.is_valid(table["top_labels"]), pc.not_equal(table["status"], "unknown")))
        label = pc.list_element(decided["top_labels"], 0)
        code = pc.index_in(label, value_set=pa.array(self.classes, pa.string()))
        found = decided.append_column("code", code).filter(pc.is_valid(code))
        self._count(found)
        certainty = pc.fill_null(found["score" if self.has_scores else "margin"], -math.inf)
        self.kept.append(found.append_column("certainty", certainty))
        self._collected += len(found)
        if self._collected >= BATCH:
            self.kept, self._collected = [self._extremes()], 0

    def _count(self, found: pa.Table) -> None:
        code, size = found["code"].to_numpy(), len(self.classes)
        self.images += np.bincount(code, minlength=size)
        self.withheld += np.bincount(code[pc.equal(found["status"], "abstained").to_numpy()], minlength=size)
        has_score = pc.is_valid(found["score"]).to_numpy()
        self.scored += np.bincount(code[has_score], minlength=size)
        self.scores += np.bincount(code[has_score], found["score"].to_numpy()[has_score], minlength=size)

    def _extremes(self) -> pa.Table:
        """Return the most and the least certain of the collected rows of each class, by class and falling certainty."""
        table = pa.concat_tables(self.kept).combine_chunks()
        code, certainty = table["code"].to_numpy(), table["certainty"].to_numpy()
        order = np.lexsort((-certainty, code))  # Stable: rows as certain stay in the archive's order.
        sizes = np.bincount(code, minlength=len(self.classes))
        rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        from_end = np.repeat(sizes, sizes) - 1 - rank
        return table.take(pa.array(order[(rank < self.half) | (from_end < self.half)]))

    def result(self) -> Iterator[ClassMembers]:
        """Yield the images of each class."""
        table = self._extremes() if self.kept else None
        sizes = np.zeros(len(self.classes), np.int64)
        if table is not None:
            sizes += np.bincount(table["code"].to_numpy(), minlength=len(self.classes))
        ends = np.cumsum(sizes)
        for code, name in enumerate(self.classes):
            rows = [] if table is None else table.slice(ends[code] - sizes[code], sizes[code]).to_pylist()
            shown = tuple(labelled_image(row, row["shard"]) for row in rows)
            scored = int(self.scored[code])
            sure = (len(shown) + 1) // 2
            yield ClassMembers(
                name=name,
                images=int(self.images[code]),
                withheld=int(self.withheld[code]),
                mean_score=float(self.scores[code]) / scored if scored else None,
                sure=shown[:sure],
                unsure=shown[sure:],
            )
