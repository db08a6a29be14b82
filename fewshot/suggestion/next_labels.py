"""Suggestions: images to label next, each with the reason why it was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from fewshot.suggestion.herding import Herd, Sample, herd, median_radius
from fewshot.suggestion.rare_classes import LabelledRows, hunting_quota, leaders

T = TypeVar("T")
Reason = Literal["unseen region", "doubtful", "rare class"]


@dataclass(frozen=True, slots=True)
class Pick:
    """A suggested image.

    Attributes:
        row: of the sample.
        reason: why it was chosen.
        label: the class that was hunted for; None for other reasons.
    """

    row: int
    reason: Reason
    label: int | None = None


def suggest(
    sample: Sample,
    labelled: LabelledRows,
    count: int,
    *,
    guesses: NDArray[np.int64] | None = None,
    radius: float | None = None,
) -> list[Pick]:
    """Choose images to label next.

    Args:
        sample: images of the archive, in random order.
        labelled: images that have labels, of the archive or not; they and their near-duplicates are not chosen.
        count: images to choose, >= 0; fewer if the others are near-duplicates of those.
        guesses: [N] int64, the most probable class of each image, -1 where there is none. None hunts for no class.
        radius: of the kernel, > 0; None takes `median_radius` for as many labels as there will be.

    Returns:
        the picks, the most useful first; those of rare classes are spread evenly among the others.
    """
    if radius is None:
        radius = median_radius(sample.features, max(1, len(labelled) + count))
    state = Herd.beside(sample, labelled.features, radius=radius)
    hunted = [] if guesses is None else list(_hunt(state, labelled, count, guesses))
    covering = [
        Pick(row, "doubtful" if is_doubtful else "unseen region")
        for row, is_doubtful in herd(state, count - len(hunted))
    ]
    return _spread(covering, hunted)


def _hunt(state: Herd, labelled: LabelledRows, count: int, guesses: NDArray[np.int64]) -> Iterator[Pick]:
    """Choose the images most like each rare class, among those that are more like it than like any other class."""
    known = guesses[guesses >= 0]
    if not len(known):
        return
    shares = np.bincount(known, minlength=labelled.num_classes) / len(known)
    quota = hunting_quota(shares, labelled.counts, count)
    found = leaders(state.sample.features, labelled) if quota.any() else None
    if found is None:
        return
    for label in np.argsort(-quota, kind="stable")[: int((quota > 0).sum())].tolist():
        rows = np.flatnonzero(found.labels == label)
        for row in rows[np.argsort(-found.leads[rows], kind="stable")].tolist():
            if quota[label] and state.is_open[row]:
                state.choose(row)
                quota[label] -= 1
                yield Pick(row, "rare class", label)


def _spread(most: Sequence[T], few: Sequence[T]) -> list[T]:
    """Return both lists as one, in which the items of the second are spread evenly."""
    placed = [((index + 0.5) / len(part), item) for part in (most, few) for index, item in enumerate(part)]
    return [item for _, item in sorted(placed, key=lambda place: place[0])]
