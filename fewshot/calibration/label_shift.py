"""Held-out images that stand for an archive in which the classes have other shares.

If the images of a class look the same in both (label shift: Saerens et al. 2002, Neural Computation 14), the mean of a
quantity over the archive is its mean over held-out images with weights: share of the class over its part of the
held-out images.

A threshold is chosen by exact tests that count errors (`fewshot.calibration.abstention`), and weights cannot be
counted. So the held-out images are thinned: each stays with a probability that is proportional to its weight, as large
as possible. Those that stay are a draw from the archive (rejection sampling), of fewer images the more shares differ.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot.errors import DataError


def class_weights(labels: Tensor, shares: Tensor) -> Tensor:
    """Return the weights of held-out images for an archive with these shares.

    Args:
        labels: [n] int64 in [0, K).
        shares: [K] float64, > 0.

    Returns:
        [n] float64 with mean 1. Shares of classes without held-out images are left out.

    Raises:
        DataError: a share is not positive.
    """
    if not bool((shares > 0.0).all()):
        raise DataError("shares of classes must be positive")
    counts = torch.bincount(labels, minlength=len(shares))
    weights = (shares / counts.clamp(min=1))[labels]
    return weights * (len(labels) / weights.sum()) if len(labels) else weights


def effective_number(images: int, weights: Tensor | None) -> float:
    """Return how many images of equal weight tell as much: (sum of weights)^2 / sum of squares (Kish 1965).

    Args:
        images: their number, which it is for equal weights.
        weights: [images] float64, > 0; None for equal ones.
    """
    if weights is None or not images:
        return images
    return float(weights.sum().square() / weights.square().sum())


def weighted_mean(values: Tensor, weights: Tensor | None) -> float:
    """Return the mean of values [n] with weights [n] float64, > 0; None for equal ones."""
    if weights is None:
        return float(values.double().mean())
    return float((values.double() * weights).sum() / weights.sum())


def thinned(weights: Tensor, *, seed: int) -> Tensor:
    """Return [n] bool: which images stay, of weights [n] in an order that follows from the images."""
    generator = torch.Generator().manual_seed(seed)
    chance = torch.rand(len(weights), dtype=torch.float64, generator=generator)
    return chance * weights.max() < weights if len(weights) else weights > 0.0
