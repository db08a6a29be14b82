"""How many labels a decision would take, and whether a fall in a class could be seen at all."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp2
from typing import Literal

import numpy as np
from scipy.stats import binom

from fewshot.promotion.evidence import log_evidence_of_counts
from fewshot.promotion.gate import ALPHA

MOST_LABELS = 10_000_000
"""More than these are not looked for."""
POWER = 0.8
"""With which a fall must be visible before silence about it says anything."""
QUANTILES = (np.arange(9) + 0.5) / 9
"""Of a distribution, to take a mean over."""
Guard = Literal["fell", "held", "cannot tell"]


def labels_needed(gain: float, *, disagreement: float, log_needed: float, margin: float = 0.0) -> int | None:
    """Return after how many labels a gain is expected to be shown, about the median of what happens.

    Args:
        gain: of the candidate in accuracy, in (-1, 1).
        disagreement: d, share of images on which exactly one of both is right, in [0, 1]; at least |gain| is taken.
        log_needed: logarithm of the evidence that decides.
        margin: as `decide`.

    Returns:
        the number; None if it is above `MOST_LABELS`, or if such a gain is never shown.
    """
    share = max(disagreement, abs(gain))

    def reaches(labels: int) -> bool:
        better, worse = labels * (share + gain) / 2.0, labels * (share - gain) / 2.0
        return log_evidence_of_counts(better, worse, labels, margin=margin) >= log_needed

    high = 1
    while not reaches(high):
        high *= 2
        if high > MOST_LABELS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


@dataclass(frozen=True, slots=True)
class ClassGuard:
    """What is known about a fall of accuracy in one class.

    Attributes:
        state: "fell": it is shown that production is better there. "held": it is not, though the fall that is guarded
            against would have been seen with a probability of `POWER`. "cannot tell": there are too few labels.
        images: number of labels of the class.
        better: number of them on which only the candidate is right.
        worse: number of them on which only production is right.
        labels: number of labels with which one could tell, about; of a class that is judged, those that it has. None
            where that is out of reach.
    """

    state: Guard
    images: int
    better: int
    worse: int
    labels: int | None


def guard_class(
    *, images: int, better: int, worse: int, classes: int, fall: float = 0.1, alpha: float = ALPHA
) -> ClassGuard:
    """Look whether the accuracy of a class fell.

    All classes together raise a false alarm with probability alpha at most.

    Args:
        images: number of labels of the class, of equal weight.
        better: number of them on which only the candidate is right.
        worse: number of them on which only production is right.
        classes: K, the number of classes that are looked at.
        fall: in accuracy, in (0, 1), that is guarded against.
        alpha: see above.
    """
    needed = float(np.log(classes / alpha))
    disagreement = max(fall, (better + worse + 1) / (images + 2))
    fell = log_evidence_of_counts(worse, better, images) >= needed
    can_tell = _power(images, disagreement, fall, needed) >= POWER
    state: Guard = "fell" if fell else "held" if can_tell else "cannot tell"
    labels = images if state != "cannot tell" else _labels_to_tell(disagreement, fall, needed)
    return ClassGuard(state, images, better, worse, labels)


def _power(images: int, disagreement: float, fall: float, needed: float) -> float:
    """Probability that a fall is shown by this many labels: the mean over likely numbers of those in disagreement."""
    likely = binom.ppf(QUANTILES, images, disagreement).astype(int).tolist()
    share = 0.5 + fall / (2.0 * disagreement)
    return float(np.mean([binom.sf(_least_worse(pairs, needed) - 1, pairs, share) for pairs in likely]))


@lru_cache(maxsize=4096)
def _least_worse(pairs: int, needed: float) -> int:
    """Of so many images in disagreement, how many must favour production to show a fall; more than all if none do."""
    least: int = bisect_left(
        range(pairs + 1), needed, key=lambda worse: log_evidence_of_counts(worse, pairs - worse, pairs)
    )
    return least


def _labels_to_tell(disagreement: float, fall: float, needed: float) -> int | None:
    """Smallest power of the square root of two, roughly, with enough power."""
    for step in range(8, 33):
        labels = ceil(exp2(step / 2.0))
        if _power(labels, disagreement, fall, needed) >= POWER:
            return labels
    return None
