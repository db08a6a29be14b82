"""Evidence that one classifier is better than another, which may be looked at after every label.

Both classify the same images. The *gain* of an image is 1 if only the candidate is right, -1 if only production is, and
0 if both are or none is. The hypothesis is that the mean gain is at most -m (m = 0: the candidate is not better; m > 0:
it is worse by more than a margin). A capital of 1 is bet against it: an image multiplies it with

    1 + k (g + m) / (1 - m),    0 <= k < 1.

That is never negative, and under the hypothesis it is expected to be 1 at most. So, by Ville's inequality, the capital
ever reaches 1 / alpha with probability alpha at most, whenever one looks and stops (Waudby-Smith and Ramdas 2023,
JRSS-B 86, section 4). The capital is spread evenly over all k in [0, 1]. Every image counts alike, so what is shown
holds for what images were drawn from: with equal probabilities, or else for images like these.

For m = 0, k = 2 p - 1 makes this the uniform mixture over the probabilities p > 1/2 that an image on which they differ
favours the candidate, which has a closed form (b images favour the candidate, c production):

    log E = log B(b + 1, c + 1) + log P(Beta(b + 1, c + 1) > 1/2) + log 2 + (b + c) log 2.

For m > 0 the closed form would need the share of images on which they differ, d, for p > 1/2 - m / (2 d). That is
estimated from the same labels, so the promise would hold only as well as the estimate; betting on the gains needs none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NODES = 256
"""Bets k that the integral is a sum over. A sum of capitals is a capital, so their number costs no promise."""


def _nodes() -> tuple[np.ndarray, np.ndarray]:
    """[NODES] bets and the logarithms of their shares of the capital: Gauss-Legendre on [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(NODES)
    return (points + 1.0) / 2.0, np.log(weights / 2.0)


BETS, LOG_SHARES = _nodes()


def log_evidence(gains: np.ndarray, *, margin: float = 0.0) -> float:
    """Return the logarithm of the evidence that the candidate is better, or not worse by more than a margin.

    Args:
        gains: [T] in {-1, 0, 1}; swap the sign for the evidence of harm.
        margin: m in [0, 1), by which it may be worse.

    Returns:
        log E, which reaches log(1 / alpha) with probability alpha at most if the hypothesis is true; 0 without images.

    Raises:
        ValueError: a value is out of its range.
    """
    gains = np.asarray(gains, dtype=np.float64)
    if not np.isin(gains, (-1.0, 0.0, 1.0)).all():
        raise ValueError("expected gains of -1, 0 or 1")
    return log_evidence_of_counts(int((gains > 0).sum()), int((gains < 0).sum()), len(gains), margin=margin)


def log_evidence_of_counts(better: float, worse: float, images: float, *, margin: float = 0.0) -> float:
    """Return `log_evidence` of so many images: the capital after them in any order, as it is a product.

    Args:
        better: number of images on which only the candidate is right; may be an expected number.
        worse: number of images on which only production is right.
        images: number of all images.
        margin: as `log_evidence`.

    Raises:
        ValueError: the margin is out of its range.
    """
    if not 0.0 <= margin < 1.0:
        raise ValueError(f"expected a margin in [0, 1), got {margin}")
    gains, counts = np.array([1.0, -1.0, 0.0]), np.array([better, worse, images - better - worse])
    factors = np.log1p(BETS[:, None] * (gains + margin) / (1.0 - margin))  # [NODES, 3], finite: k < 1.
    return float(np.logaddexp.reduce(factors @ counts + LOG_SHARES))


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Images that both classified before either had learned from them.

    Attributes:
        gains: [T] int, 1 where only the candidate is right, -1 where only production is, 0 elsewhere.
    """

    gains: np.ndarray

    @property
    def better(self) -> int:
        """Number of images on which only the candidate is right."""
        return int((self.gains > 0).sum())

    @property
    def worse(self) -> int:
        """Number of images on which only production is right."""
        return int((self.gains < 0).sum())

    def log_evidence(self, *, margin: float = 0.0) -> float:
        """Return the logarithm of the evidence that the candidate is not worse by more than a margin."""
        return log_evidence(self.gains, margin=margin)

    def log_harm(self) -> float:
        """Return the logarithm of the evidence that production is better."""
        return log_evidence(-self.gains)
