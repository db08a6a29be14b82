"""The loss of SHIP: squared distance to the image feature, plus the price of what the latent says about it."""

from __future__ import annotations

from torch import Tensor


def reconstruction(produced: Tensor, features: Tensor) -> Tensor:
    """Mean squared distance; 2 - 2 cos for unit rows.

    Args:
        produced: [B, e] float32.
        features: [B, e] float32.

    Returns:
        scalar: summed over channels, averaged over rows.
    """
    return (produced - features).square().sum(dim=1).mean()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)) of each latent dimension, averaged over rows.

    Args:
        mean: [B, d] float32.
        log_variance: [B, d] float32.

    Returns:
        [d] float32, >= 0, in nats; 0 where the mean is 0 and the variance 1 in every row. Its sum is the KL of SHIP.
    """
    return -0.5 * (1.0 + log_variance - mean.square() - log_variance.exp()).mean(dim=0)
