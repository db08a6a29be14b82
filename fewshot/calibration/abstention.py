"""Withholding labels so that those given are wrong at most as often as the user tolerates, with a guarantee.

Selection with guaranteed risk (Geifman and El-Yaniv 2017, arXiv 1705.08500): a threshold on the confidence is good
enough when the exact upper bound of the error above it is. Their algorithm 2 searches thresholds by bisection, each
step with its share of the permitted failure probability; that takes the bound to fall with the threshold, although
fewer accepted images also loosen it, and never tries to accept everything. Here ten coverages fixed beforehand are
tried, each with a tenth of the failure probability (a union bound), and the largest that passes is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import beta as beta_distribution
from torch import Tensor

COVERAGES = tuple(tenths / 10.0 for tenths in range(10, 0, -1))
ABSTAIN_ALWAYS = 2.0
"""A threshold above every probability."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """A threshold, and the upper bound of the error at or above it (None when no threshold is good enough)."""

    threshold: float
    error_bound: float | None


def guaranteed_threshold(scores: Tensor, correct: Tensor, *, max_error: float, confidence: float) -> Guarantee:
    """The lowest threshold tried whose accepted images are wrong at most `max_error` of the time.

    With few images this is strict, as it has to be: only some 90 images without a mistake show, at 90 % confidence,
    that the error is below 5 %.

    Args:
        scores: [n] float32, confidences of held-out images.
        correct: [n] bool.
        max_error: in (0, 1).
        confidence: the probability, over the draw of the held-out images, that the error is as promised; in (0, 1).

    Returns:
        `ABSTAIN_ALWAYS` when no threshold tried is good enough.
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
    """Clopper-Pearson: the error rate at which so few errors among so many images have probability `delta`."""
    return 1.0 if errors == images else float(beta_distribution.ppf(1.0 - delta, errors + 1, images - errors))
