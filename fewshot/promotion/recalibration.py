"""How much more, or less, often labels agree with a classifier than its scores promise, from labels that came earlier.

Scores are calibrated on held-out examples, and the archive differs from these: they are too low where few examples a
class remained to hold some out from, and too high where the archive is harder. On labels that came after a version, and
that it had not learned from, one sees by how much. The next version has about the same fault, since it learned from
nearly the same labels; the labels of a night may be easier or harder than those before, so their share of agreement is
no measure, but what is found for a score holds for images of this score.

Two faults are estimated, both in log-odds. That a label is the predicted class: a + b times the log-odds of the score.
That it is one of the next classes, if it is not the predicted one: those of their scores, plus c. What remains unknown
about them is kept: the answer is a number of maps, each as probable as any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

TOO_HIGH = 0.3
"""Standard deviation of the shift of scores that promise too much: a score of 0.8 that is 12 points too high is two."""
TOO_LOW = 1.5
"""That of scores that promise too little, which happens more easily: 0.5 may be 0.8."""
TOO_STEEP = 0.15
"""Standard deviation of the logarithm of the slope, where scores are surer, or less sure, than they may be."""
TOO_FLAT = 0.4
"""That of scores that are too undecided."""
NEXT = 0.6
"""Standard deviation of the shift of the next classes."""
BETWEEN = 0.3
"""Standard deviation of the difference between the shifts of one version and the next, as measured on three sets."""
MAPS = 128

Floats = NDArray[np.float64]
Ranks = NDArray[np.int64]

_SHIFTS = np.arange(-24, 65) / 16.0
_SLOPES = np.exp(0.15 * np.arange(-2, 6))
_LEAST = 1e-3


@dataclass(frozen=True, slots=True)
class RankedLabels:
    """Labels, as far as a classifier thought of them before it learned from them.

    Attributes:
        ranks: [n] int64: 0 for the most probable class, 1 for the next one and so on; m for a class that is not among
            the first m.
        scores: [n, m] float64, m >= 1: probabilities of the first m classes, in descending order; zeros stand for those
            that are not known.
    """

    ranks: Ranks
    scores: Floats

    @classmethod
    def none(cls) -> RankedLabels:
        """Return no labels."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 1)))

    def chances(self, shift: Floats, slope: Floats, next_shift: Floats) -> Floats:
        """Return how probable each rank is, by maps of the scores.

        Args:
            shift: [maps] float64, parameter a of each map.
            slope: [maps] float64, parameter b.
            next_shift: [maps] float64, parameter c.

        Returns:
            [maps, n, m + 1] float64, with sum 1 over the ranks.
        """
        first = expit(shift[:, None] + slope[:, None] * self._first_odds)[..., None]
        among = expit(next_shift[:, None] + self._next_odds)[..., None]
        rest = self.scores[:, 1:]
        parts = rest / np.maximum(rest.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        missing = (rest.sum(axis=1) == 0.0)[:, None]
        among = np.where(missing, 0.0, among)
        return np.concatenate([first, (1.0 - first) * among * parts, (1.0 - first) * (1.0 - among)], axis=2)

    @property
    def _first_odds(self) -> Floats:
        return _log_odds(self.scores[:, 0])

    @property
    def _next_odds(self) -> Floats:
        return _log_odds(self.scores[:, 1:].sum(axis=1) / np.maximum(1.0 - self.scores[:, 0], _LEAST))


@dataclass(frozen=True, slots=True)
class Recalibration:
    """What earlier labels say about scores.

    Attributes:
        shifts: [S, B] float64, probability of each pair of a shift and a slope.
        next_shifts: [S] float64, probability of each shift of the next classes.
    """

    shifts: Floats
    next_shifts: Floats

    @classmethod
    def from_labels(cls, earlier: RankedLabels) -> Recalibration:
        """Estimate it from labels that a classifier, or one before it, predicted before it learned from them."""
        missed = earlier.ranks > 0
        is_next = earlier.ranks[missed] < earlier.scores.shape[1]
        return cls(
            _posterior(earlier._first_odds, ~missed, _PRIOR, _SLOPES),
            _posterior(earlier._next_odds[missed], is_next, _NEXT_PRIOR, np.ones(1))[:, 0],
        )

    def middle(self, labels: RankedLabels) -> Floats:
        """Return the chance of each rank of labels, by the median of each parameter: [n, m + 1] float64."""
        shift, slope = _median(_SHIFTS, self.shifts.sum(axis=1)), _median(_SLOPES, self.shifts.sum(axis=0))
        found = labels.chances(shift, slope, _median(_SHIFTS, self.next_shifts))[0]
        return np.asarray(found, dtype=np.float64)

    def draws(self, labels: RankedLabels) -> Floats:
        """Return the chances of ranks by maps that are as probable as each other: [`MAPS`, n, m + 1] float64."""
        pairs = _spread(self.shifts.ravel())
        at, slope = np.unravel_index(pairs, self.shifts.shape)
        after = np.random.default_rng(0).permutation(_spread(self.next_shifts))
        return labels.chances(_SHIFTS[at], _SLOPES[slope], _SHIFTS[after])


def _log_odds(scores: Floats) -> Floats:
    return np.asarray(logit(np.clip(scores, _LEAST, 1.0 - _LEAST)), dtype=np.float64)


def _posterior(odds: Floats, hits: NDArray[np.bool_], prior: Floats, slopes: Floats) -> Floats:
    """Probability of each shift and slope, for labels of another version: [S, slopes], as the prior."""
    if not len(hits):
        return prior
    log_odds = _SHIFTS[:, None, None] + slopes[:, None] * odds
    log_likelihood = -np.logaddexp(0.0, np.where(hits, -log_odds, log_odds)).sum(axis=2)
    weights = prior * np.exp(log_likelihood - log_likelihood.max())
    moves = np.exp(-0.5 * ((_SHIFTS[:, None] - _SHIFTS) / BETWEEN) ** 2)
    return np.asarray((moves / moves.sum(axis=0)) @ weights / weights.sum(), dtype=np.float64)


def _two_sided(values: Floats, below: float, above: float) -> Floats:
    """Probabilities of values that are as probably negative as positive, with another spread on each side."""
    sides = [(values <= 0.0, below), (values >= 0.0, above)]
    found = [np.where(side, np.exp(-0.5 * (values / spread) ** 2), 0.0) for side, spread in sides]
    return np.asarray(sum(each / (2.0 * each.sum()) for each in found), dtype=np.float64)


_PRIOR = _two_sided(_SHIFTS, TOO_HIGH, TOO_LOW)[:, None] * _two_sided(np.log(_SLOPES), TOO_STEEP, TOO_FLAT)
_NEXT_PRIOR = _two_sided(_SHIFTS, NEXT, NEXT)[:, None]


def _median(values: Floats, weights: Floats) -> Floats:
    return values[[int(np.searchsorted(np.cumsum(weights), 0.5 * weights.sum() - 1e-9))]]


def _spread(weights: Floats) -> Ranks:
    """Places of `MAPS` draws, spread evenly over the probability."""
    total = np.cumsum(weights)
    places = np.searchsorted(total, (np.arange(MAPS) + 0.5) / MAPS * total[-1])
    return np.asarray(np.minimum(places, len(weights) - 1), dtype=np.int64)
