"""Greedy choice of images that cover an archive, weighted by doubt (uncertainty herding, arXiv 2412.20644).

    gain(s) = sum over x of u(x) max(0, k(x, s) - c(x))     c(x): largest k(x, l) of all labelled and chosen images l
    k(x, s) = exp(-|x - s|^2 / (2 r^2))                     of unit features

u is the probability that the label of an image is wrong, so a gain is the number of wrong labels near an image that no
labelled image is near. Where all u are equal, that is pure coverage.

r is the median distance of an image to the nearest of as many random ones as there will be labels. So it shrinks with
the labels: with few, one image stands for a region, and coverage decides; with many, it stands for itself and its like,
and doubt decides. Nothing is set by hand but the cosine of near-duplicates.

The gain of an image never grows while others are chosen (it is submodular), so an old value is an upper bound. Only the
images whose bounds are highest are computed anew, until the highest bound is a new value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NEAR_DUPLICATE = 0.97
"""Cosine above which two images are near-duplicates, of which one is enough."""
COSINES = 10**9
"""Cosines of the first gains, about: of a sample of N rows, the first COSINES / N can be chosen to cover it."""
MEASURED = 2000
"""Rows whose distances a radius is the median of."""
_TILE, _BATCH, _RENEWED = 4096, 512, 32
"""Rows and candidates of one product, and candidates whose gains are computed anew at a time."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sample:
    """Images of an archive, in random order.

    Attributes:
        features: [N, D] float32, unit rows.
        doubt: [N] float32 >= 0, probability that the label of an image is wrong; ones where nothing is known.
    """

    features: Array
    doubt: Array

    def __len__(self) -> int:
        """N."""
        return len(self.features)


def median_radius(features: Array, count: int) -> float:
    """Return the median distance of an image to the nearest of `count` others.

    Args:
        features: [N, D] float32, unit rows, in random order.
        count: of others, >= 1; at most N - 1 are taken.

    Returns:
        > 0, also where all images are equal, or there is only one.
    """
    others = features[: max(0, min(count, len(features) - 1))]
    rows = features[-MEASURED:]
    if not len(others):
        return 1.0
    nearest = np.full(len(rows), -1.0, np.float32)
    first = len(features) - len(rows)
    for start in range(0, len(others), _TILE):
        cosines = rows @ others[start : start + _TILE].T
        own = np.arange(first, len(features)) - start
        is_other = (own >= 0) & (own < cosines.shape[1])
        cosines[np.flatnonzero(is_other), own[is_other]] = -1.0  # Its distance to itself is no distance to another.
        np.maximum(nearest, cosines.max(axis=1), out=nearest)
    distance = float(np.sqrt(np.maximum(0.0, 2.0 - 2.0 * np.median(nearest))))
    return distance if distance > 1e-3 else 1e-3


def kernel(cosines: Array, radius: float) -> Array:
    """Return exp(-|x - s|^2 / (2 radius^2)) of unit rows with these cosines."""
    scaled: Array = (cosines - np.float32(1.0)) / np.float32(radius * radius)
    np.minimum(scaled, np.float32(0.0), out=scaled)
    return np.exp(scaled, out=scaled)


def largest_cosines(features: Array, others: Array) -> Array:
    """Return the cosine of each row to the most similar of other rows.

    Args:
        features: [N, D] float32, unit rows.
        others: [L, D] float32, unit rows.

    Returns:
        [N] float32; -inf without others.
    """
    largest = np.full(len(features), -math.inf, np.float32)
    for rows in _tiles(len(features), _TILE):
        for columns in _tiles(len(others), _TILE):
            np.maximum(largest[rows], (features[rows] @ others[columns].T).max(axis=1), out=largest[rows])
    return largest


@dataclass(slots=True)
class Herd:
    """The state of a choice: what is covered, and what can still be chosen.

    Attributes:
        sample: the images.
        radius: of the kernel, > 0.
        covered: [N] float32 in [0, 1]: c of the module.
        is_open: [N] bool, which images can be chosen.
        near_duplicate: cosine above which an image is too similar to be chosen beside another.
        computed: number of gains that were computed.
    """

    sample: Sample
    radius: float
    covered: Array
    is_open: NDArray[np.bool_]
    near_duplicate: float = NEAR_DUPLICATE
    computed: int = field(default=0, init=False)

    @classmethod
    def beside(cls, sample: Sample, labelled: Array, *, radius: float, near_duplicate: float = NEAR_DUPLICATE) -> Herd:
        """Return the state beside labelled images [L, D], unit rows, whose near-duplicates are not chosen."""
        cosines = largest_cosines(sample.features, labelled)
        is_open = cosines <= near_duplicate
        return cls(sample, radius, kernel(cosines, radius), is_open, near_duplicate)

    def gains(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the gains of candidates [B], float64."""
        found = np.zeros(len(rows))
        for part in _tiles(len(rows), _BATCH):
            chosen = self.sample.features[rows[part]].T
            for tile in _tiles(len(self.sample), _TILE):
                near = kernel(self.sample.features[tile] @ chosen, self.radius)
                near -= self.covered[tile, None]
                found[part] += self.sample.doubt[tile] @ np.maximum(near, 0.0, out=near)
        self.computed += len(rows)
        return found

    def choose(self, row: int) -> float:
        """Count an image as labelled, and close its near-duplicates.

        Returns:
            its area: its gain, had all images a doubt of 1.
        """
        cosines = self.sample.features @ self.sample.features[row]
        near = kernel(cosines.copy(), self.radius)
        area = float(np.maximum(near - self.covered, 0.0).sum(dtype=np.float64))
        np.maximum(self.covered, near, out=self.covered)
        self.is_open &= cosines <= self.near_duplicate
        self.is_open[row] = False
        return area


def herd(state: Herd, count: int) -> Iterator[tuple[int, bool]]:
    """Choose images one after the other, each with the largest gain beside those before; the first of equal ones.

    Args:
        state: is changed by each choice.
        count: images to choose, at most; fewer if no candidate is left.

    Yields:
        the row of an image, and whether it is doubt that raises its gain above that of an average image with its area.
    """
    mean_doubt = float(state.sample.doubt.mean(dtype=np.float64)) if len(state.sample) else 0.0
    bounds = np.full(candidates(len(state.sample), count), math.inf)
    is_open = state.is_open[: len(bounds)]
    for _ in range(count):
        is_new = np.zeros(len(bounds), bool)
        while is_open.any():
            bounds[~is_open] = -math.inf
            best = int(bounds.argmax())
            if is_new[best]:
                break
            renewed = _highest(np.where(is_new, -math.inf, bounds), _RENEWED)
            bounds[renewed] = state.gains(renewed)
            is_new[renewed] = True
        else:
            return
        gain, area = float(bounds[best]), state.choose(best)
        yield best, gain > mean_doubt * area * (1.0 + 1e-6)


def candidates(size: int, count: int) -> int:
    """Return how many rows of a sample can be chosen to cover it, the first ones: at least twice the `count` asked."""
    return min(size, max(COSINES // max(1, size), 2 * count))


def _highest(bounds: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the positions of the highest bounds above -inf, `count` of them, and all that are not known yet."""
    unknown = np.flatnonzero(np.isposinf(bounds))
    if len(unknown):
        return unknown
    count = min(count, int(np.isfinite(bounds).sum()))
    highest: NDArray[np.int64] = np.argpartition(-bounds, count - 1)[:count]
    return highest


def _tiles(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
