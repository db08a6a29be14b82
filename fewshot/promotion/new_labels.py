"""Whether new labels contradict what is known so much that a person should look before anything learns from them.

Production's scores are calibrated: of new labels that it gives a mean score of 0.8, about four in five should agree
with it. Fewer do where labels are wrong, and also where the archive has changed or the scores were too sure of
themselves. So agreement must be both improbably low for its number (the Poisson binomial, exactly up to `EXACT` labels)
and lower by a share of it: wrong labels take their own share away, whatever the accuracy is (30 % wrong labels about 30
% of what was expected), while scores were at most 12 points too high on the archives that were measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

ALPHA = 1e-3
"""Probability of holding a night back whose labels are as right as expected."""
FLOOR = 0.15
"""By how much agreement must be lower than expected, as a share of the expected number."""


EXACT = 2_000
"""Labels up to which the probability is exact; a normal one stands in for it above."""


@dataclass(frozen=True, slots=True)
class NewLabels:
    """What new labels look like to production.

    Attributes:
        labels: number of new labels of classes that production knows.
        agreeing: number of them that it would have given, too.
        expected: number of them that its scores promise.
        is_suspicious: whether a person should look.
        classes: names of the classes that were given where production saw another one, the most surprising first.
    """

    labels: int
    agreeing: int
    expected: float
    is_suspicious: bool
    classes: tuple[str, ...]


def check_new_labels(
    given: Sequence[str], predicted: Sequence[str], scores: np.ndarray, *, alpha: float = ALPHA, floor: float = FLOOR
) -> NewLabels:
    """Compare new labels with production's predictions of the same images, made before it learned from them.

    Args:
        given: n names, of classes that production knows.
        predicted: n names, its most probable classes.
        scores: [n] float, their calibrated probabilities in [0, 1].
        alpha: see `ALPHA`.
        floor: see `FLOOR`.

    Raises:
        ValueError: their numbers differ.
    """
    if not len(given) == len(predicted) == len(scores):
        raise ValueError(f"expected as many labels as predictions, got {len(given)}, {len(predicted)}, {len(scores)}")
    scores = np.asarray(scores, dtype=np.float64)
    agrees = np.array([one == other for one, other in zip(given, predicted, strict=True)], dtype=bool)
    missing = float(scores.sum() - agrees.sum())
    is_low = missing >= floor * scores.sum() > 0
    is_suspicious = is_low and _probability_of_at_most(int(agrees.sum()), scores) <= alpha
    surprise: Counter[str] = Counter()
    for label, score, agreed in zip(given, scores.tolist(), agrees.tolist(), strict=True):
        surprise[label] += score - agreed
    classes = tuple(label for label, value in surprise.most_common() if value > 0.0) if is_suspicious else ()
    return NewLabels(len(given), int(agrees.sum()), float(scores.sum()), is_suspicious, classes)


def _probability_of_at_most(agreeing: int, scores: np.ndarray) -> float:
    """Probability that so many labels or fewer agree, if each does with the probability of its score."""
    if len(scores) > EXACT:
        spread = float(np.sqrt((scores * (1.0 - scores)).sum()))
        return float(norm.cdf((agreeing + 0.5 - scores.sum()) / max(spread, 1e-12)))
    counts = np.ones(1)
    for score in scores.tolist():
        counts = np.convolve(counts, (1.0 - score, score))
    return float(counts[: agreeing + 1].sum())
