"""Whether the predicted classes of two samples, or the shares of withheld labels, are of one population."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from fewshot.drift.relabelling import relabelled_p_values

FOR_CHANCE = 199
"""Permutations that tell what chance adds to a distance."""


@dataclass(frozen=True, slots=True)
class SharesTest:
    """How the predicted classes of two samples differ.

    Attributes:
        distance: total variation of the shares in both samples, in [0, 1]: half the sum of absolute differences.
        by_chance: root of the mean square of it over permutations.
        p_value: probability of such a distance, or a larger one, if both samples are of one population.
    """

    distance: float
    by_chance: float
    p_value: float

    @property
    def effect(self) -> float:
        """The distance without what chance adds to it: small samples of many classes differ in any case.

        The error of a share adds to its square, as variances do. So it is the root of what is left of the square.
        """
        return float(np.sqrt(max(0.0, self.distance**2 - self.by_chance**2)))


def compare_shares(
    reference: NDArray[np.int64], present: NDArray[np.int64], *, permutations: int, seed: int
) -> SharesTest:
    """Compare the shares of classes by a permutation test.

    Relabelling the pooled sample draws the counts of one sample from the pooled ones without replacement, which is a
    multivariate hypergeometric distribution: nothing is shuffled.

    Args:
        reference: [n0] classes, >= 0.
        present: [n1] classes, >= 0.
        permutations: of the p-value, at most, >= 1.
        seed: of the draws.
    """
    classes, pooled = np.unique(np.concatenate([reference, present]), return_counts=True)
    observed = np.bincount(np.searchsorted(classes, present), minlength=len(classes))
    distance = float(_distances(observed[None], pooled, len(reference), len(present))[0])
    rng = np.random.default_rng(seed)

    def draw(count: int) -> NDArray[np.float64]:
        drawn = rng.multivariate_hypergeometric(pooled, len(present), size=count, method="marginals")
        return _distances(drawn, pooled, len(reference), len(present))

    by_chance = float(np.sqrt(np.mean(draw(FOR_CHANCE) ** 2)))
    (p_value,) = relabelled_p_values(lambda count: draw(count)[None] >= distance - 1e-12, permutations)
    return SharesTest(distance, by_chance, p_value)


def _distances(
    counts: NDArray[np.int64], pooled: NDArray[np.int64], reference: int, present: int
) -> NDArray[np.float64]:
    """Return [P] total variations of counts [P, K] of the present sample and the rest of the pooled ones [K]."""
    distances: NDArray[np.float64] = 0.5 * np.abs(counts / present - (pooled - counts) / reference).sum(axis=1)
    return distances


def rate_p_value(reference: NDArray[np.bool_], present: NDArray[np.bool_]) -> float:
    """Return the p-value of equal rates: Fisher's exact test, two-sided, the permutation test of two rates.

    Args:
        reference: [n0] of images.
        present: [n1].
    """
    hits, others = int(reference.sum()), int(present.sum())
    table = [[hits, len(reference) - hits], [others, len(present) - others]]
    return float(fisher_exact(table).pvalue)
