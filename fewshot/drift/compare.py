"""What is compared between the images at promotion and those that came since, and what is an alarm.

An alarm needs two things: a p-value at most at the level of the night (`alarm_budget`), and an effect that matters, so
that a large sample does not alarm about nothing. Four statistics share the level:

* `features`: AUC of a discriminant (`two_samples`), from 0.6;
* `novel`: share of new images that score above 95 % of the reference, from 5 points above what chance gives;
* `classes`: total variation of the shares of predicted classes, what chance adds taken off, from 5 points;
* `withheld`: share of images that are abstained or unknown, a difference of 5 points.

Each is looked at in one or two windows of the newest images, since a change shows up first in the last night and a
small one only in many; these share the level as well.

What is compared are contents that came after the reference, and the reference. An archive that grows keeps the images
of the reference: as a whole it would change by the share that is new, and a copy of a row on each side tells nothing.
Taking common images off both sides would leave an archive that grows without a reference. One that is replaced every
night has only new images. In both, the samples are disjoint draws of one population if nothing changed, as permuting
their labels assumes. Images that vanish are no drift of what comes in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fewshot.drift.counts import compare_shares, rate_p_value
from fewshot.drift.two_samples import Discriminant

Statistic = Literal["features", "novel", "classes", "withheld"]
STATISTICS: tuple[Statistic, ...] = ("features", "novel", "classes", "withheld")
SAMPLE = 2000
"""Images of a sample, at most."""
WINDOW = 100
"""Images of the short window, at least, if there are as many."""
LEAST = 50
"""Images that are compared, at least."""
FEW, MOST = 199, 100_000
"""Permutations, at most: where the effect of the discriminant is too small for an alarm, and in any case: as many as a
check an hour needs for an alarm. Without one, they stop early."""


@dataclass(frozen=True, slots=True)
class Floors:
    """Smallest effects that are an alarm.

    Attributes:
        auc: of the discriminant, in [0.5, 1].
        change: of the other statistics, as a share of images.
    """

    auc: float = 0.6
    change: float = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Images with their predictions.

    Attributes:
        features: [n, D] float32, unit rows.
        classes: [n] int64, the most probable class of each; -1 where there is none, or where it does not count: such an
            image is left out of `classes` and `withheld`.
        withheld: [n] bool, whether it is abstained or unknown.
    """

    features: NDArray[np.float32]
    classes: NDArray[np.int64]
    withheld: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.features)

    def first(self, count: int) -> Sample:
        """Return the first images."""
        return Sample(self.features[:count], self.classes[:count], self.withheld[:count])


@dataclass(frozen=True, slots=True)
class Finding:
    """What one statistic says of one window.

    Attributes:
        statistic: which one.
        images: new images in the window.
        reference: value of the reference, or what is expected without drift.
        value: of the new images; AUC, or a share.
        effect: what is compared with the floor.
        floor: smallest effect that is an alarm.
        p_value: probability of such a value if nothing changed.
        level: largest p-value that is an alarm.
    """

    statistic: Statistic
    images: int
    reference: float
    value: float
    effect: float
    floor: float
    p_value: float
    level: float

    @property
    def is_alarm(self) -> bool:
        """Whether the effect matters and chance does not explain it."""
        return self.effect >= self.floor and self.p_value <= self.level


def windows(nights: Sequence[int]) -> list[int]:
    """Return the sizes of the windows of the newest images, one or two in ascending order.

    Args:
        nights: [n] number of the night in which each image came, the newest first.

    Returns:
        that of the newest whole nights with `WINDOW` images, and n; none of fewer than `LEAST` images.
    """
    if len(nights) < LEAST:
        return []
    last = nights[min(WINDOW, len(nights)) - 1]
    short = sum(night >= last for night in nights)
    return [short] if short == len(nights) else [short, len(nights)]


def compare(
    reference: Sample,
    present: Sample,
    sizes: Sequence[int],
    *,
    level: float,
    floors: Floors | None = None,
    seed: int = 0,
) -> tuple[list[Finding], NDArray[np.float64]]:
    """Compare new images with the reference.

    Args:
        reference: n0 >= `LEAST` images.
        present: n1 new images, none of which is in the reference, the newest first.
        sizes: of the windows, from `windows`, at least one.
        level: of the night, in (0, 1).
        floors: smallest effects; None takes the defaults.
        seed: of shuffles and permutations.

    Returns:
        the findings, four a window, and [sizes[0]] how unlike the reference each image of the first window is: its held
        out score of the discriminant, so that those come first that tell the samples apart.

    Raises:
        ValueError: there is no window, a sample is too small, or the level is out of its range.
    """
    if not sizes or min(len(reference), *sizes) < LEAST or not 0.0 < level < 1.0:
        raise ValueError(f"cannot compare {len(reference)} images with windows of {list(sizes)} at level {level}")
    each = level / (len(STATISTICS) * len(sizes))
    limits = floors or Floors()
    found: list[Finding] = []
    unlike: NDArray[np.float64] | None = None
    for size in sizes:
        window = present.first(size)
        discriminant = Discriminant(reference.features, window.features, seed=seed)
        unlike = discriminant.unlikeness() if unlike is None else unlike
        found += _of_features(discriminant, size, each, limits)
        found += _of_counts(reference, window, each, limits.change, seed)
    assert unlike is not None
    return found, unlike


def permutations_for(level: float) -> int:
    """Return how many permutations show that a p-value is at most a level, with as many again for ties by chance."""
    return min(MOST, ceil(2.0 / level))


def _of_features(discriminant: Discriminant, images: int, level: float, floors: Floors) -> Iterator[Finding]:
    expected = discriminant.expected_tail
    matters = discriminant.auc >= floors.auc or discriminant.tail - expected >= floors.change
    result = discriminant.separation(permutations_for(level) if matters else FEW)
    auc, tail = result.auc, result.tail
    yield Finding("features", images, 0.5, auc, auc, floors.auc, result.auc_p_value, level)
    yield Finding("novel", images, expected, tail, tail - expected, floors.change, result.tail_p_value, level)


def _of_counts(reference: Sample, window: Sample, level: float, floor: float, seed: int) -> Iterator[Finding]:
    counted = reference.classes >= 0, window.classes >= 0
    if min(int(each.sum()) for each in counted) < LEAST:
        return
    classes = reference.classes[counted[0]], window.classes[counted[1]]
    shares = compare_shares(*classes, permutations=permutations_for(level), seed=seed)
    yield Finding(
        "classes", len(window), shares.by_chance, shares.distance, shares.effect, floor, shares.p_value, level
    )
    withheld = reference.withheld[counted[0]], window.withheld[counted[1]]
    before, now = (float(each.mean()) for each in withheld)
    p_value = rate_p_value(*withheld)
    yield Finding("withheld", len(window), before, now, abs(now - before), floor, p_value, level)
