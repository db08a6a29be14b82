"""Whether new labels contradict what is known so much that a person should look before anything learns from them.

Production says how probable each class is for the image of a new label. If a share w of the labels is wrong, any class,
a label of the class y has the probability (1 − w) p(y) + w (1 − p(y)) / (K − 1) instead of p(y). The ratio of both is
the most powerful statistic: a label that production thinks impossible says much, one that it does not agree with where
it is in doubt says little. Counts of agreement lose that: on six sets they saw 30 % wrong ones among 40 labels in 18 of
100 nights, the ratio in 68, at half as many false alarms (docs/retraining.md).

The probabilities are production's scores, recalibrated by labels that came earlier, see
`fewshot.promotion.recalibration`. The statistic must be improbably high, exactly for each map of the scores up to
`EXACT` labels, and on average over what is not known about the maps. And since nights differ in more than chance, the
share of wrong labels that explains it best must reach `FLOOR`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from fewshot.promotion.recalibration import Floats, RankedLabels, Ranks, Recalibration

ALPHA = 1e-3
"""Probability of holding a night back whose labels are right."""
FLOOR = 0.15
"""Share of wrong labels that a night must look like."""
WRONG = 0.3
"""Share for which the statistic is the most powerful one."""
EXACT = 400
"""Labels up to which the probability is exact; a normal one stands in for it above."""
NAMED = 0.5
"""Number of wrong labels of a class, as far as that can be told, from which it is named."""

_UNIT = 0.25
_SHARES = np.arange(100) / 100.0


@dataclass(frozen=True, slots=True)
class NewLabels:
    """What new labels look like to production.

    Attributes:
        labels: number of new labels of classes that production knows.
        agreeing: number of them that it would have given, too.
        expected: number of them that its recalibrated scores promise.
        wrong: share of them that seems to be wrong, in [0, 1).
        is_suspicious: whether a person should look.
        classes: names of the classes that seem to be given wrongly, the one with most wrong labels first.
    """

    labels: int
    agreeing: int
    expected: float
    wrong: float
    is_suspicious: bool
    classes: tuple[str, ...]


def check_new_labels(
    given: Sequence[str],
    ranked: RankedLabels,
    classes: int,
    earlier: RankedLabels | None = None,
    *,
    alpha: float = ALPHA,
    floor: float = FLOOR,
) -> NewLabels:
    """Compare new labels with production's predictions of the same images, made before it learned from them.

    Args:
        given: n names, of classes that production knows.
        ranked: the same labels, as production ranks them.
        classes: number of classes that production knows.
        earlier: labels that came earlier, as the versions before ranked them; None takes the scores as they are, but
            for what is not known about them.
        alpha: see `ALPHA`.
        floor: see `FLOOR`.

    Raises:
        ValueError: their numbers differ.
    """
    if not len(given) == len(ranked.ranks) == len(ranked.scores):
        raise ValueError(f"expected as many ranks as labels, got {len(ranked.ranks)} for {len(given)}")
    recalibration = Recalibration.from_labels(RankedLabels.none() if earlier is None else earlier)
    chances = recalibration.middle(ranked)
    agreeing, expected = int((ranked.ranks == 0).sum()), float(chances[:, 0].sum())
    ratios = _wrong_to_right(chances, classes)
    own = np.take_along_axis(ratios, ranked.ranks[:, None], axis=1)[:, 0]
    wrong = float(_SHARES[np.log1p(_SHARES[:, None] * (own - 1.0)).sum(axis=1).argmax()])
    is_suspicious = classes > 1 and wrong >= floor and _chance_of(ratios, ranked, recalibration) <= alpha
    named = _named(given, wrong * own / (1.0 - wrong + wrong * own)) if is_suspicious else ()
    return NewLabels(len(given), agreeing, expected, wrong, is_suspicious, named)


def _wrong_to_right(chances: Floats, classes: int) -> Floats:
    """How much more probable each rank is for a wrong label than for a right one: [n, m + 1]."""
    right = np.maximum(chances, 1e-6)
    wrong = (1.0 - right[:, :-1]) / max(1, classes - 1)
    elsewhere = np.maximum(1.0 - wrong.sum(axis=1, keepdims=True), 1e-9)
    return np.asarray(np.concatenate([wrong, elsewhere], axis=1) / right, dtype=np.float64)


def _chance_of(ratios: Floats, ranked: RankedLabels, recalibration: Recalibration) -> float:
    """Probability that right labels look as wrong as these, or more."""
    weights = np.rint(np.log1p(WRONG * (ratios - 1.0)) / _UNIT).astype(np.int64)
    weights -= weights.min(axis=1, keepdims=True)
    reached = int(np.take_along_axis(weights, ranked.ranks[:, None], axis=1).sum())
    chances = recalibration.draws(ranked)
    if len(weights) > EXACT:
        return _normal_chance(weights, chances, reached)
    return _exact_chance(weights, chances, reached)


def _exact_chance(weights: Ranks, chances: Floats, reached: int) -> float:
    """Probability that a sum of independent weights reaches a number, on average over the maps.

    Args:
        weights: [n, ranks] int64, whole numbers >= 0.
        chances: [maps, n, ranks], their probabilities by each map.
        reached: that number.
    """
    below = np.zeros((len(chances), reached))  # Of each sum below it.
    below[:, :1] = 1.0
    for each, chance in zip(weights.tolist(), chances.transpose(1, 2, 0), strict=True):
        after = np.zeros_like(below)
        for weight, probability in zip(each, chance, strict=True):
            if weight < reached:
                after[:, weight:] += below[:, : reached - weight] * probability[:, None]
        below = after
    return float(1.0 - below.sum(axis=1).mean())


def _normal_chance(weights: Ranks, chances: Floats, reached: int) -> float:
    means = (chances * weights).sum(axis=2)
    variances = (chances * weights**2).sum(axis=2) - means**2
    spread = np.sqrt(np.maximum(variances.sum(axis=1), 1e-12))
    return float(norm.sf((reached - 0.5 - means.sum(axis=1)) / spread).mean())


def _named(given: Sequence[str], wrong: Floats) -> tuple[str, ...]:
    """Classes by the number of labels that seem to be wrong; one at least."""
    numbers: Counter[str] = Counter()
    for label, chance in zip(given, wrong.tolist(), strict=True):
        numbers[label] += chance
    found = numbers.most_common()
    return tuple(label for label, number in found if number >= NAMED) or (found[0][0],)
