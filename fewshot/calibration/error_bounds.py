"""Exact binomial bounds of an error rate: what errors among held-out predictions show, and how many there must be.

All of it follows from one test (Clopper and Pearson 1934): x errors among k independent predictions show that the error
rate is at most p, with failure probability delta, if P(Binomial(k, p) <= x) <= delta.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

ROUNDING = 1e-9
"""Relative tolerance of the test, so that rounding of `1 - confidence` does not ask for another example."""
LEAST_COVERAGE = 0.1
"""Coverage at which a search for a threshold begins, unless fewer predictions than that can succeed at all."""


def shows(errors: Any, images: Any, *, max_error: float, confidence: float) -> np.ndarray:
    """Return whether so many errors show that the error rate is at most `max_error`.

    Args:
        errors: [...] int, numbers of wrong predictions, in [0, images].
        images: [...] int, numbers of predictions, >= 1.
        max_error: in (0, 1).
        confidence: in (0, 1).

    Returns:
        [...] bool.
    """
    from scipy.special import bdtr  # a finished job is recognised without it

    return np.asarray(bdtr(errors, images, max_error) <= (1.0 - confidence) * (1.0 + ROUNDING))


def fewest_images(max_error: float, *, confidence: float) -> int:
    """Return how many held-out images, all labelled right, show an error rate: 22 for 0.1 at a confidence of 0.9.

    Args:
        max_error: in (0, 1).
        confidence: in (0, 1).

    Returns:
        The least k with (1 - max_error)^k <= 1 - confidence, at least 1.
    """
    images = max(1, math.ceil(math.log(1.0 - confidence) / math.log1p(-max_error) - ROUNDING))
    return images if shows(0, images, max_error=max_error, confidence=confidence) else images + 1


def least_error(images: int, *, confidence: float) -> float | None:
    """Return the least error rate that so many held-out images can show, None if there are none.

    Args:
        images: number of held-out images, >= 0.
        confidence: in (0, 1).

    Returns:
        1 - (1 - confidence)^(1 / images), in (0, 1).
    """
    return 1.0 - (1.0 - confidence) ** (1.0 / images) if images else None


def error_upper_bound(errors: int, images: int, *, delta: float) -> float:
    """Return the Clopper-Pearson bound: the error rate at which at most so many errors have probability `delta`.

    Args:
        errors: number of wrong predictions, in [0, images].
        images: number of predictions.
        delta: one minus the confidence of the bound, in (0, 1).
    """
    from scipy.special import betaincinv

    if errors == images:
        return 1.0
    return float(betaincinv(errors + 1, images - errors, 1.0 - delta))


def first_count(images: int, *, max_error: float, confidence: float) -> int:
    """Return how many of the most confident held-out images a search for a threshold tests first.

    As few as can succeed at all, but not less than a tenth: among thousands of images, a single wrong label among the
    22 most confident ones would end the search for a coverage that nobody wants.

    Args:
        images: number of held-out images.
        max_error: in (0, 1).
        confidence: in (0, 1).

    Returns:
        A number >= 1; more than `images` if these are too few to show `max_error`.
    """
    return max(fewest_images(max_error, confidence=confidence), math.ceil(LEAST_COVERAGE * images))
