"""Diagnostics of a generator: the use of its latent, and the spread of the features that it generates.

At the published weight of the KL term the posterior collapses: the KL is near 0, no unit is active, and the features of
a class are nearly equal. This is not an error: the generator is then the prompt whose text feature is the best
regression of the image features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.feature_synthesis.synthesis import decode, synthesise
from fewshot.feature_synthesis.vae import Weights, divergence, posterior, reconstruction, sample
from fewshot.optimization.shots import Shots

if TYPE_CHECKING:
    from fewshot.backbones.text_tower import TextTower

ACTIVE = 1e-2
"""A latent dimension is active where its posterior mean varies more than this (Burda et al. 2016)."""
DRAWS = 4
"""Synthetic features of each class for the measurement of the spread."""
MAX_CLASSES = 64
"""The spread is measured on the first classes only."""
MAX_IMAGES = 256
"""The reconstruction is measured on the first images only."""


@torch.no_grad()
def measure_generator(
    weights: Weights, tower: TextTower, names: Sequence[str], shots: Shots, *, seed: int
) -> dict[str, Tensor]:
    """Measure a trained autoencoder on the shots of its training.

    Args:
        weights: all weights, including the encoder's.
        tower: the text tower of the backbone.
        names: k prompt names.
        shots: at least one image of each class.
        seed: of all random numbers.

    Returns:
        Scalars, float32: "kl" in nats, "active_units", "reconstruction", and "spread" and "real_spread", the mean
        cosines within a class of synthetic and of real features (NaN if no class has two).
    """
    features = normalize(shots.views[:, 0], dim=1)
    mean, log_variance = posterior(weights, features)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
    latents, few = sample(mean, log_variance, noise), slice(MAX_IMAGES)
    prompts = tower.prompts(names, context=len(weights["prompts"]))[shots.labels[few]]
    drawn = synthesise(weights, tower, names[:MAX_CLASSES], count=DRAWS, seed=seed)
    owners = torch.arange(len(drawn)) // DRAWS
    return {
        "kl": divergence(mean, log_variance).sum(),
        "active_units": (mean.var(dim=0, correction=0) > ACTIVE).sum().float(),
        "reconstruction": reconstruction(decode(weights, tower, prompts, latents[few]), features[few]),
        "spread": mean_cosine_within_classes(drawn, owners),
        "real_spread": mean_cosine_within_classes(features, shots.labels),
    }


def mean_cosine_within_classes(features: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cosine of two distinct features of a class, averaged over the classes that have two.

    Args:
        features: [M, e] float32, unit rows.
        labels: [M] int64.

    Returns:
        A scalar in [-1, 1]; NaN if no class has two.
    """
    counts = torch.bincount(labels)
    sums = features.new_zeros(len(counts), features.shape[1]).index_add_(0, labels, features)
    several = counts > 1
    n = counts[several]
    return ((sums[several].square().sum(dim=1) - n) / (n * (n - 1))).mean()
