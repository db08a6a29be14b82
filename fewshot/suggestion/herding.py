"""Greedy choice of images that cover an archive, weighted by doubt (uncertainty herding, arXiv 2412.20644).

    gain(s) = sum over x of u(x) max(0, k(x, s) - c(x))     c(x): largest k(x, l) of all labelled and chosen images l
    k(x, s) = exp(-|x - s|^2 / (2 r^2))                     of unit features

u is the probability that the label of an image is wrong, so a gain is the number of wrong labels near an image that no
labelled image is near. Where all u are equal, that is pure coverage.

r is the median distance of an image to the nearest of as many random ones as there will be labels. So it shrinks with
the labels: with few, one image stands for a region, and coverage decides; with many, it stands for itself and its like,
and doubt decides. Nothing is set by hand but the cosine of near-duplicates.

All gains are computed once. Later, an image that is chosen raises c of the images that it is nearest to, and only these
change the gains of others: each gain falls by what it owed to them between the old c and the new one. With n choices,
an image is raised about 1 + 1/2 + ... + 1/n times, so all choices together cost some times as much as the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

NEAR_DUPLICATE = 0.97
"""Cosine above which two images are near-duplicates, of which one is enough."""
COSINES = 10**9
"""Cosines of the first gains, about: of a sample of N rows, the first COSINES / N can be chosen to cover it."""
MEASURED = 2000
"""Rows whose distances a radius is the median of."""
_TILE, _BATCH = 4096, 512
"""Rows and candidates of one product."""

Array: TypeAlias = NDArray[np.float32]
Rows: TypeAlias = NDArray[np.int64]


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


@dataclass(frozen=True, slots=True)
class Raised:
    """The images that a choice covers better than before.

    Attributes:
        rows: [m] int64, of the sample.
        low: [m] float32, their c before.
        high: [m] float32, their c now.
        gain: of the chosen image.
        area: its gain, had all images a doubt of 1.
    """

    rows: Rows
    low: Array
    high: Array
    gain: float
    area: float


@dataclass(slots=True)
class Herd:
    """The state of a choice: what is covered, and what can still be chosen.

    Attributes:
        sample: the images.
        radius: of the kernel, > 0.
        covered: [N] float32 in [0, 1]: c of the module.
        is_open: [N] bool, which images can be chosen.
        near_duplicate: cosine above which an image is too similar to be chosen beside another.
        computed: number of kernels that were computed for gains.
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

    def gains(self, candidates: Rows) -> NDArray[np.float64]:
        """Return the gains of candidates [B], float64."""
        return self._between(candidates, np.arange(len(self.sample)), self.covered, np.ones_like(self.covered))

    def losses(self, candidates: Rows, raised: Raised) -> NDArray[np.float64]:
        """Return by how much the gains of candidates fell when images were covered better, [B] float64 >= 0."""
        return self._between(candidates, raised.rows, raised.low, raised.high)

    def _between(self, candidates: Rows, rows: Rows, low: Array, high: Array) -> NDArray[np.float64]:
        """Sum the part of u(x) k(x, s) between two levels of c [m] over images [m], for each candidate s."""
        found = np.zeros(len(candidates))
        for tile in _tiles(len(rows), _TILE):
            features, doubt = self.sample.features[rows[tile]], self.sample.doubt[rows[tile]]
            for part in _tiles(len(candidates), _BATCH):
                near = kernel(features @ self.sample.features[candidates[part]].T, self.radius)
                np.clip(near, low[tile, None], high[tile, None], out=near)
                near -= low[tile, None]
                found[part] += doubt @ near
        self.computed += len(rows) * len(candidates)
        return found

    def choose(self, row: int) -> Raised:
        """Count an image as labelled, and close its near-duplicates."""
        cosines = self.sample.features @ self.sample.features[row]
        near = kernel(cosines.copy(), self.radius)
        rows = np.flatnonzero(near > self.covered)
        low, high = self.covered[rows], near[rows]
        rise = high.astype(np.float64) - low
        self.covered[rows] = high
        self.is_open &= cosines <= self.near_duplicate
        self.is_open[row] = False
        return Raised(rows, low, high, gain=float(self.sample.doubt[rows] @ rise), area=float(rise.sum()))


def herd(state: Herd, count: int) -> Iterator[tuple[int, bool]]:
    """Choose images one after the other, each with the largest gain beside those before.

    Of those whose gains are equal up to rounding, it is the first: two images that are like each other alone are equal.

    Args:
        state: is changed by each choice.
        count: images to choose, at most; fewer if no candidate is left.

    Yields:
        the row of an image, and whether it is doubt that raises its gain above that of an average image with its area.
    """
    mean_doubt = float(state.sample.doubt.mean(dtype=np.float64)) if len(state.sample) else 0.0
    rows = np.flatnonzero(state.is_open[: candidates(len(state.sample), count)]) if count else np.zeros(0, np.int64)
    gains = state.gains(rows)
    rounding = float(np.finfo(np.float32).eps) * float(gains.max(initial=0.0))
    raised = None
    for _ in range(count):
        if raised is not None:
            is_open = state.is_open[rows]
            rows = rows[is_open]
            gains = gains[is_open] - state.losses(rows, raised)
        if not len(rows):
            return
        best = int(rows[(gains >= gains.max() - rounding).argmax()])
        raised = state.choose(best)
        yield best, raised.gain > mean_doubt * raised.area * (1.0 + 1e-6)


def candidates(size: int, count: int) -> int:
    """Return how many rows of a sample can be chosen to cover it, the first ones: at least twice the `count` asked."""
    return min(size, max(COSINES // max(1, size), 2 * count))


def _tiles(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
