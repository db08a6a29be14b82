"""SHIP's variational autoencoder (Wang et al. 2023, arXiv 2307.07397) as functions of tensors.

    (mu, log s^2) = E(x)    r = G(z)    v_m = p_m + r    x' = norm(text tower([SOS] v_1 ... v_M name . [EOS]))

The encoder E and the generator G are perceptrons with one hidden layer; the global prompts p are trained with them. A
class enters by its name only, so that a generator trained on some classes generates features of any other. The loss is
the squared distance to the image feature plus the weighted KL of the latent. Sizes follow the authors' code for the ten
smaller data sets; it hard-codes one number for the image feature (e), the token embedding (w) and the latent (d), which
are three here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import linear, relu

Weights = Mapping[str, Tensor]
"""Tensors by name: "encoder.*", "generator.*" and "prompts"."""

ENCODER_HIDDEN = 2048
GENERATOR_HIDDEN = 4096
INITIAL_SCALE = 0.02
"""Standard deviation of the initial weights; r starts about twenty times as large as p, as in the authors' code."""


def initial_weights(*, dim: int, width: int, latent: int, context: int, seed: int) -> dict[str, Tensor]:
    """Draw the weights before training; no shape depends on the number of classes.

    Args:
        dim: e, the dimension of image features.
        width: w, the dimension of token embeddings.
        latent: d, the dimension of the latent.
        context: M, the number of prompt tokens.
        seed: of the draw.

    Returns:
        Weights N(0, 0.02^2) and biases 0, float32.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "encoder.hidden": (ENCODER_HIDDEN, dim),
        "encoder.mean": (latent, ENCODER_HIDDEN),
        "encoder.log_variance": (latent, ENCODER_HIDDEN),
        "generator.hidden": (GENERATOR_HIDDEN, latent),
        "generator.out": (width, GENERATOR_HIDDEN),
    }
    weights = {"prompts": INITIAL_SCALE * torch.randn(context, width, generator=generator)}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = INITIAL_SCALE * torch.randn(shape, generator=generator)
        weights[f"{name}.bias"] = torch.zeros(shape[0])
    return weights


def posterior(weights: Weights, features: Tensor) -> tuple[Tensor, Tensor]:
    """Encode features (E): the posterior of the latent.

    Args:
        weights: of the autoencoder.
        features: [B, e] float32, unit rows.

    Returns:
        Mean and logarithm of the variance, each [B, d] float32.
    """
    hidden = relu(_layer(weights, "encoder.hidden", features))
    return _layer(weights, "encoder.mean", hidden), _layer(weights, "encoder.log_variance", hidden)


def sample(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Return the reparametrised draw mean + exp(log_variance / 2) * noise; all [B, d] float32."""
    return mean + torch.exp(0.5 * log_variance) * noise


def contexts(weights: Weights, latents: Tensor) -> Tensor:
    """Return the prompt tokens p + G(z), with the same shift for all tokens of a sequence.

    Args:
        weights: of the autoencoder; those of the encoder are not used.
        latents: [B, d] float32.

    Returns:
        [B, M, w] float32.
    """
    shift = _layer(weights, "generator.out", relu(_layer(weights, "generator.hidden", latents)))
    return weights["prompts"] + shift[:, None]


def reconstruction(produced: Tensor, features: Tensor) -> Tensor:
    """Return the mean squared distance; 2 - 2 cos for unit rows.

    Args:
        produced: [B, e] float32.
        features: [B, e] float32.

    Returns:
        A scalar: summed over channels, averaged over rows.
    """
    return (produced - features).square().sum(dim=1).mean()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, I)) of each latent dimension, averaged over rows.

    Args:
        mean: [B, d] float32.
        log_variance: [B, d] float32.

    Returns:
        [d] float32, >= 0, in nats; 0 if the mean is 0 and the variance 1 in every row. Its sum is the KL of SHIP.
    """
    return -0.5 * (1.0 + log_variance - mean.square() - log_variance.exp()).mean(dim=0)


def latent_size(weights: Weights) -> int:
    """Return d, the dimension of the latent."""
    return weights["generator.hidden.weight"].shape[1]


def decoder(weights: Weights) -> dict[str, Tensor]:
    """Return the weights without those of the encoder, which are needed for training only."""
    return {name: value for name, value in weights.items() if not name.startswith("encoder.")}


def _layer(weights: Weights, name: str, rows: Tensor) -> Tensor:
    return linear(rows, weights[f"{name}.weight"], weights[f"{name}.bias"])
