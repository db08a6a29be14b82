"""Where predictions differ from given labels: counts of every class and pair of classes, and the most certain mistakes.

The predictions are read once, as a stream. What is kept is bounded by the classes and pairs that occur, and by one
number for each image with a given label.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster import Store
from fewshot.data.example import plain_path
from ray_jobs.output.feature_parts import view_table
from ray_jobs.output.layout import Spot, shard_of

SHOWN, PICTURED = 24, 4
"""Mistakes that are shown; of each pair of classes, the most certain ones that are."""
PAIRS = 12
"""Pairs of classes that are shown, the most frequent ones."""
CURVE_POINTS = 20
_COLUMNS = ["image", "top_labels", "score", "margin", "status"]
_Z = 1.959964
"""Of a two-sided interval of 95 %."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image whose label is wrong.

    Attributes:
        spot: its position.
        image: its key.
        label: the predicted class.
        given: the class that was given.
        certainty: the score; the margin, where there are no scores.
        score: calibrated probability of `label`; None where there is none.
        withheld: whether the label is withheld.
    """

    spot: Spot
    image: str
    label: str
    given: str
    certainty: float
    score: float | None
    withheld: bool


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """How one class fares, withheld labels counted.

    Attributes:
        name: of the class.
        images: images of the class.
        predicted: images with its label.
        right: images that are in both.
    """

    name: str
    images: int
    predicted: int
    right: int

    @property
    def recall(self) -> float | None:
        """Share of its images that have its label; None without images."""
        return self.right / self.images if self.images else None

    @property
    def precision(self) -> float | None:
        """Share of the images with its label that are of the class; None if no image has it."""
        return self.right / self.predicted if self.predicted else None


@dataclass(frozen=True, slots=True)
class Confusion:
    """A pair of classes that are confused.

    Attributes:
        given: the class that was given.
        label: the predicted class.
        images: number of these images.
        examples: the most certain of them.
    """

    given: str
    label: str
    images: int
    examples: tuple[Mistake, ...]


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """What labelling only the most certain images would come to.

    Attributes:
        coverage: share of the images that get a label, in (0, 1].
        accuracy: of these labels, in [0, 1].
        low: lower end of its 95 % interval (Wilson).
        high: upper end.
        certainty: the least certainty among them.
    """

    coverage: float
    accuracy: float
    low: float
    high: float
    certainty: float


@dataclass(frozen=True, slots=True)
class Mistakes:
    """Where predictions differ from given labels.

    Attributes:
        images: images with a given label of one of the classes.
        wrong: of these, images with another label, withheld ones too.
        most_certain: mistakes, the most certain first.
        confusions: pairs of classes, the most frequent first.
        classes: all classes that occur, those with the lowest recall first.
        curve: accuracy against coverage; empty where images have no certainty.
    """

    images: int
    wrong: int
    most_certain: tuple[Mistake, ...]
    confusions: tuple[Confusion, ...]
    classes: tuple[ClassCounts, ...]
    curve: tuple[CoveragePoint, ...]

    @property
    def spots(self) -> list[tuple[Spot, str]]:
        """Positions of the images that are shown, with their keys."""
        shown = [*self.most_certain, *(each for pair in self.confusions for each in pair.examples)]
        return [(mistake.spot, mistake.image) for mistake in shown]


def find_mistakes(
    store: Store, parts: Iterable[str], given: Mapping[str, str], *, classes: Sequence[str] | None, has_scores: bool
) -> Mistakes | None:
    """Compare predictions with given labels.

    Args:
        store: the output.
        parts: of the predictions.
        given: by key as `plain_path` writes it, the given label.
        classes: the K classes; images of others are left out. None takes every given label for one of them.
        has_scores: whether the classifier gives scores; if not, images are ordered by their margins.

    Returns:
        None if no image has a given label.
    """
    known = None if classes is None else frozenset(classes)
    usable = {image: label for image, label in given.items() if known is None or label in known}
    counts = _Counts(has_scores=has_scores)
    for part in parts if usable else ():
        counts.add(view_table(store, part, columns=_COLUMNS), shard_of(part), usable)
    return counts.result() if counts.images else None


@dataclass
class _Counts:
    has_scores: bool
    images: int = 0
    of_class: Counter[str] = field(default_factory=Counter)
    predicted: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: defaultdict[tuple[str, str], list[Mistake]] = field(default_factory=lambda: defaultdict(list))
    certainties: list[np.ndarray] = field(default_factory=list)
    correct: list[np.ndarray] = field(default_factory=list)

    def add(self, table: pa.Table, shard: str, given: Mapping[str, str]) -> None:
        """Count the rows of a part that have a given label and a prediction."""
        names = pa.array([given.get(plain_path(image)) for image in table["image"].to_pylist()], pa.string())
        numbered = table.append_column("row", pa.array(range(len(table)), pa.int64())).append_column("given", names)
        decided = pc.and_(pc.is_valid(numbered["top_labels"]), pc.not_equal(numbered["status"], "unknown"))
        rows = numbered.filter(pc.and_(pc.is_valid(numbered["given"]), decided))
        if not len(rows):
            return
        labels, of_image = pc.list_element(rows["top_labels"], 0), rows["given"]
        is_right = pc.equal(labels, of_image)
        self.images += len(rows)
        self.of_class.update(of_image.to_pylist())
        self.predicted.update(labels.to_pylist())
        self.right.update(of_image.filter(is_right).to_pylist())
        certainty = rows["score" if self.has_scores else "margin"]
        self.certainties.append(pc.fill_null(certainty, math.nan).to_numpy().astype(np.float32))
        self.correct.append(np.asarray(is_right.to_numpy(zero_copy_only=False), dtype=bool))
        for mistake in _mistakes(rows.filter(pc.invert(is_right)), shard, has_scores=self.has_scores):
            pair = mistake.given, mistake.label
            self.pairs[pair] += 1
            self.examples[pair] = _most_certain([*self.examples[pair], mistake], SHOWN)

    def result(self) -> Mistakes:
        """Return the counts of all parts."""
        names = self.of_class.keys() | self.predicted.keys()
        classes = [ClassCounts(name, self.of_class[name], self.predicted[name], self.right[name]) for name in names]
        classes.sort(key=lambda each: (1.0 if each.recall is None else each.recall, -each.images, each.name))
        ranked = sorted(self.pairs.items(), key=lambda item: (-item[1], item[0]))[:PAIRS]
        every = [mistake for found in self.examples.values() for mistake in found]
        return Mistakes(
            images=self.images,
            wrong=self.pairs.total(),
            most_certain=tuple(_most_certain(every, SHOWN)),
            confusions=tuple(
                Confusion(*pair, count, tuple(_most_certain(self.examples[pair], PICTURED))) for pair, count in ranked
            ),
            classes=tuple(classes),
            curve=tuple(accuracy_against_coverage(np.concatenate(self.certainties), np.concatenate(self.correct))),
        )


def _most_certain(mistakes: Sequence[Mistake], count: int) -> list[Mistake]:
    return nlargest(count, mistakes, key=lambda mistake: (mistake.certainty, mistake.image))


def _mistakes(rows: pa.Table, shard: str, *, has_scores: bool) -> Iterator[Mistake]:
    for row in rows.to_pylist():
        certainty = row["score"] if has_scores else row["margin"]
        yield Mistake(
            spot=Spot(shard, row["row"]),
            image=row["image"],
            label=row["top_labels"][0],
            given=row["given"],
            certainty=-math.inf if certainty is None else certainty,
            score=row["score"],
            withheld=row["status"] == "abstained",
        )


def accuracy_against_coverage(certainty: np.ndarray, correct: np.ndarray) -> Iterator[CoveragePoint]:
    """Yield the accuracy of the most certain labels, for rising shares of the images.

    Args:
        certainty: [N] float32; NaN where an image has none and counts as the least certain.
        correct: [N] bool, whether its label is right.

    Returns:
        at most `CURVE_POINTS` points; none if no image has a certainty.
    """
    if not len(certainty) or np.isnan(certainty).all():
        return
    order = np.argsort(-np.nan_to_num(certainty, nan=-np.inf), kind="stable")
    right, ordered = np.cumsum(correct[order]), certainty[order]
    for count in sorted({math.ceil(len(order) * point / CURVE_POINTS) for point in range(1, CURVE_POINTS + 1)}):
        accuracy = float(right[count - 1]) / count
        low, high = wilson_interval(accuracy, count)
        yield CoveragePoint(count / len(order), accuracy, low, high, float(ordered[count - 1]))


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927).

    Args:
        share: in [0, 1], of `count`.
        count: >= 1.
    """
    centre, scale = share + _Z**2 / (2 * count), 1.0 + _Z**2 / count
    half = _Z * math.sqrt(share * (1.0 - share) / count + _Z**2 / (4 * count**2))
    return min(share, max(0.0, (centre - half) / scale)), max(share, min(1.0, (centre + half) / scale))
