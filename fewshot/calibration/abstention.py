"""Abstention with a guaranteed maximum error rate among the accepted predictions.

Selection with guaranteed risk (Geifman and El-Yaniv 2017, arXiv 1705.08500): a threshold on the confidence is valid if
the exact upper bound of the error rate at or above it does not exceed the maximum. Their algorithm 2 searches
thresholds by bisection, each step with its share of the permitted failure probability; this assumes that the bound
falls with the threshold, although fewer accepted images also loosen it, and it never tests a coverage of 1. Here ten
fixed coverages are tested, each with a tenth of the failure probability (a union bound), and the largest valid one is
chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import beta as beta_distribution
from torch import Tensor

COVERAGES = tuple(tenths / 10.0 for tenths in range(10, 0, -1))
"""Shares of accepted images to test, the largest first."""
ABSTAIN_ALWAYS = 2.0
"""A threshold above every probability: all predictions abstain."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """A threshold and what it guarantees.

    Attributes:
        threshold: predictions with a lower score abstain.
        error_bound: upper bound of the error rate at or above the threshold; None if no threshold is valid.
    """

    threshold: float
    error_bound: float | None


def guaranteed_threshold(scores: Tensor, correct: Tensor, *, max_error: float, confidence: float) -> Guarantee:
    """Return the lowest tested threshold that guarantees an error rate of at most `max_error` at or above it.

    Few images guarantee little: some 90 without an error are needed for an error rate below 5 % at 90 % confidence.

    Args:
        scores: [n] float32, confidences of held-out images.
        correct: [n] bool, whether their predictions are correct.
        max_error: maximum error rate, in (0, 1).
        confidence: probability, over the draw of the held-out images, that the guarantee holds; in (0, 1).

    Returns:
        The guarantee; its threshold is `ABSTAIN_ALWAYS` if no tested threshold is valid.
    """
    descending = scores.sort(descending=True).values
    delta = (1.0 - confidence) / len(COVERAGES)
    for accepted_images in (round(coverage * len(scores)) for coverage in COVERAGES):
        if not accepted_images:
            continue
        threshold = float(descending[accepted_images - 1])
        accepted = scores >= threshold
        bound = error_upper_bound(int((accepted & ~correct).sum()), int(accepted.sum()), delta=delta)
        if bound <= max_error:
            return Guarantee(threshold, bound)
    return Guarantee(ABSTAIN_ALWAYS, None)


def fewest_images(max_error: float, *, confidence: float) -> int:
    """Return how many held-out images there must be for any threshold to be good enough: so many, all labelled right.

    Args:
        max_error: in (0, 1).
        confidence: in (0, 1).
    """
    delta = (1.0 - confidence) / len(COVERAGES)
    return math.ceil(math.log(delta) / math.log1p(-max_error))


def error_upper_bound(errors: int, images: int, *, delta: float) -> float:
    """Return the Clopper-Pearson bound: the error rate at which at most so many errors have probability `delta`.

    Args:
        errors: number of wrong predictions, in [0, images].
        images: number of predictions.
        delta: one minus the confidence of the bound, in (0, 1).
    """
    return 1.0 if errors == images else float(beta_distribution.ppf(1.0 - delta, errors + 1, images - errors))
