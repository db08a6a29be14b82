"""Evidence that one classifier is better than another, which may be looked at after every label.

Both classify the same images. The *gain* of an image is 1 if only the candidate is right, -1 if only production is, and
0 if both are or none is. The hypothesis is that the mean gain is at most -m (m = 0: the candidate is not better; m > 0:
it is worse by more than a margin). A capital of 1 is bet against it: an image multiplies it with

    1 + k (w g + m) / (W - m),    0 <= k < 1,

with the weight w <= W of the image, whose mean is 1. That is never negative, and under the hypothesis it is expected to
be 1 at most. So, by Ville's inequality, the capital ever reaches 1 / alpha with probability alpha at most, whenever one
looks and stops (Waudby-Smith and Ramdas 2023, JRSS-B 86, section 4). The capital is spread evenly over all k in [0, 1].

Without weights and for m = 0, k = 2 p - 1 makes this the uniform mixture over the probabilities p > 1/2 that an image
on which they differ favours the candidate, which has a closed form (b images favour the candidate, c production):

    log E = log B(b + 1, c + 1) + log P(Beta(b + 1, c + 1) > 1/2) + log 2 + (b + c) log 2.

For m > 0 the closed form would need the share of images on which they differ, d, for p > 1/2 - m / (2 d). That is
estimated from the same labels, so the promise would hold only as well as the estimate; betting on the gains needs none.
"""

from __future__ import annotations

import numpy as np

NODES = 256
"""Bets k that the integral is a sum over. A sum of capitals is a capital, so their number costs no promise."""


def _nodes() -> tuple[np.ndarray, np.ndarray]:
    """[NODES] bets and the logarithms of their shares of the capital: Gauss-Legendre on [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(NODES)
    return (points + 1.0) / 2.0, np.log(weights / 2.0)


BETS, LOG_SHARES = _nodes()


def log_evidence(
    gains: np.ndarray, *, margin: float = 0.0, weights: np.ndarray | None = None, bound: float | None = None
) -> float:
    """Return the logarithm of the evidence that the candidate is better, or not worse by more than a margin.

    Args:
        gains: [T] in {-1, 0, 1}; swap the sign for the evidence of harm.
        margin: m in [0, 1), by which it may be worse.
        weights: [T] float64 > 0, inverse probabilities of the images' draw over their mean among all that can be drawn;
            None for equal ones. A mean of the drawn ones instead would break the promise.
        bound: W, no less than any weight that can be drawn; only with weights. It must not depend on what was drawn.

    Returns:
        log E, which reaches log(1 / alpha) with probability alpha at most if the hypothesis is true; 0 without images.

    Raises:
        ValueError: a value is out of its range.
    """
    if not 0.0 <= margin < 1.0:
        raise ValueError(f"expected a margin in [0, 1), got {margin}")
    gains = np.asarray(gains, dtype=np.float64)
    if not np.isin(gains, (-1.0, 0.0, 1.0)).all():
        raise ValueError("expected gains of -1, 0 or 1")
    if (weights is None) != (bound is None):
        raise ValueError("expected weights with a bound that does not depend on what was drawn, or neither")
    weights = np.ones_like(gains) if weights is None else np.asarray(weights, dtype=np.float64)
    bound = 1.0 if bound is None else bound
    if weights.shape != gains.shape or not (weights > 0.0).all() or bound < max(1.0, weights.max(initial=1.0)):
        raise ValueError(f"expected a positive weight for each gain, of {bound} at most")
    values, counts = np.unique(weights * gains, return_counts=True)
    return _log_capital(values, counts, margin, bound)


def log_evidence_of_counts(better: float, worse: float, images: float, *, margin: float = 0.0) -> float:
    """Return `log_evidence` of images of equal weight.

    Args:
        better: number of images on which only the candidate is right; may be an expected number.
        worse: number of images on which only production is right.
        images: number of all images.
        margin: as `log_evidence`.
    """
    values = np.array([1.0, -1.0, 0.0])
    return _log_capital(values, np.array([better, worse, images - better - worse]), margin, 1.0)


def _log_capital(values: np.ndarray, counts: np.ndarray, margin: float, bound: float) -> float:
    """The capital after images with these weighted gains, in any order: it is a product."""
    factors = np.log1p(BETS[:, None] * (values + margin) / (bound - margin))  # [NODES, V], finite: k < 1.
    return float(np.logaddexp.reduce(factors @ counts + LOG_SHARES))
