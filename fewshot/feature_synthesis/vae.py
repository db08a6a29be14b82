"""SHIP's variational autoencoder (Wang et al. 2023, arXiv 2307.07397) as functions of tensors.

    (mu, log s^2) = E(x)    r = G(z)    v_m = p_m + r    x' = norm(text tower([SOS] v_1 ... v_M name . [EOS]))

The encoder E and the generator G are perceptrons with one hidden layer; the global prompts p are learned beside them.
The class enters by name only, so that a generator learned from some classes gives features of any other. Sizes follow
the authors' code for the ten smaller data sets; it hard-codes one number for the image feature (e), the token embedding
(w) and the latent (d), which are three here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import linear, relu

Weights = Mapping[str, Tensor]
"""By name: "encoder.*", "generator.*" and "prompts"."""

ENCODER_HIDDEN = 2048
GENERATOR_HIDDEN = 4096
INITIAL_SCALE = 0.02
"""Standard deviation of every initial weight. It makes r about twenty times as large as p at first, as in the code."""


def initial_weights(*, dim: int, width: int, latent: int, context: int, seed: int) -> dict[str, Tensor]:
    """Weights before training. No shape depends on the number of classes.

    Args:
        dim: e, of image features.
        width: w, of token embeddings.
        latent: d.
        context: M, how many prompt tokens.
        seed: of the draw.

    Returns:
        weights N(0, 0.02^2), biases 0; float32.
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
    """E: where in the latent space an image may lie.

    Args:
        weights: of the autoencoder.
        features: [B, e] float32, unit rows.

    Returns:
        mean and logarithm of the variance, each [B, d] float32.
    """
    hidden = relu(_layer(weights, "encoder.hidden", features))
    return _layer(weights, "encoder.mean", hidden), _layer(weights, "encoder.log_variance", hidden)


def sample(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Reparametrised draw: mean + exp(log_variance / 2) * noise; all [B, d] float32."""
    return mean + torch.exp(0.5 * log_variance) * noise


def contexts(weights: Weights, latents: Tensor) -> Tensor:
    """Prompt tokens p + G(z): the same shift on all tokens of a sequence.

    Args:
        weights: of the autoencoder; the encoder is not used.
        latents: [B, d] float32.

    Returns:
        [B, M, w] float32.
    """
    shift = _layer(weights, "generator.out", relu(_layer(weights, "generator.hidden", latents)))
    return weights["prompts"] + shift[:, None]


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


def latent_size(weights: Weights) -> int:
    """Of these weights: d."""
    return weights["generator.hidden.weight"].shape[1]


def decoder(weights: Weights) -> dict[str, Tensor]:
    """What is left after training: the weights without the encoder's."""
    return {name: value for name, value in weights.items() if not name.startswith("encoder.")}


def _layer(weights: Weights, name: str, rows: Tensor) -> Tensor:
    return linear(rows, weights[f"{name}.weight"], weights[f"{name}.bias"])
