"""Synthetic features of classes, from their names alone.

The latent z is drawn from a generator seeded by (seed, class name, index), so that a feature does not depend on the
other classes, on the number of features, or on the machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.feature_synthesis.vae import Weights, contexts, latent_size

if TYPE_CHECKING:
    from fewshot.backbones.text_tower import Prompts, TextTower

SEQUENCES = 256
"""Sequences in one forward pass of the text tower."""


def decode(weights: Weights, tower: TextTower, prompts: Prompts, latents: Tensor) -> Tensor:
    """Decode latents to features; differentiable in weights and latents.

    Args:
        weights: of the autoencoder.
        tower: the text tower of the backbone.
        prompts: B sequences with M free tokens.
        latents: [B, d] float32.

    Returns:
        [B, e] float32, unit rows. A row depends only on its latent and its name.
    """
    return normalize(tower.encode(prompts, contexts(weights, latents)), dim=1)


@torch.no_grad()
def synthesise(weights: Weights, tower: TextTower, names: Sequence[str], *, count: int, seed: int) -> Tensor:
    """Draw image features for names.

    Args:
        weights: of the autoencoder.
        tower: the text tower of the backbone.
        names: N prompt names.
        count: number of features of each name.
        seed: of the latents.

    Returns:
        [N * count, e] float32, unit rows, name by name. A larger count starts with the same features of a name.
    """
    prompts = tower.prompts(names, context=len(weights["prompts"]))
    latents = torch.cat([draw_latents(name, count=count, size=latent_size(weights), seed=seed) for name in names])
    owners = torch.arange(len(names)).repeat_interleave(count)
    parts = zip(torch.split(owners, SEQUENCES), torch.split(latents, SEQUENCES), strict=True)
    return torch.cat([decode(weights, tower, prompts[rows], part) for rows, part in parts])


def draw_latents(name: str, *, count: int, size: int, seed: int) -> Tensor:
    """Return the latents of one name: [count, size] float32, standard normal."""
    draws = [torch.randn(size, generator=_generator(name, index, seed)) for index in range(count)]
    return torch.stack(draws) if draws else torch.empty(0, size)


def _generator(name: str, index: int, seed: int) -> torch.Generator:
    digest = hashlib.blake2b(json.dumps([seed, name, index]).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
