"""Features of classes of which only the name is known.

z is drawn for each (seed, class name, index), so that a feature does not depend on which other classes or how many
features are asked for, nor on where the work is done.
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
"""In one forward of the text tower."""


def decode(weights: Weights, tower: TextTower, prompts: Prompts, latents: Tensor) -> Tensor:
    """What the generator makes of latents; differentiable in both.

    Args:
        weights: of the autoencoder.
        tower: of the backbone.
        prompts: B sequences with room for M tokens.
        latents: [B, d] float32.

    Returns:
        [B, e] float32, unit rows. A row depends on its own latent and its own name.
    """
    return normalize(tower.encode(prompts, contexts(weights, latents)), dim=1)


@torch.no_grad()
def synthesise(weights: Weights, tower: TextTower, names: Sequence[str], *, count: int, seed: int) -> Tensor:
    """Draw image features for names.

    Args:
        weights: of the autoencoder.
        tower: of the backbone.
        names: N names as people say them.
        count: features of each.
        seed: of the latents.

    Returns:
        [N * count, e] float32, unit rows, name by name. The first ones of a name are the same for a larger count.
    """
    prompts = tower.prompts(names, context=len(weights["prompts"]))
    latents = torch.cat([draw_latents(name, count=count, size=latent_size(weights), seed=seed) for name in names])
    owners = torch.arange(len(names)).repeat_interleave(count)
    parts = zip(torch.split(owners, SEQUENCES), torch.split(latents, SEQUENCES), strict=True)
    return torch.cat([decode(weights, tower, prompts[rows], part) for rows, part in parts])


def draw_latents(name: str, *, count: int, size: int, seed: int) -> Tensor:
    """[count, size] float32, standard normal: the latents of one name."""
    draws = [torch.randn(size, generator=_generator(name, index, seed)) for index in range(count)]
    return torch.stack(draws) if draws else torch.empty(0, size)


def _generator(name: str, index: int, seed: int) -> torch.Generator:
    digest = hashlib.blake2b(json.dumps([seed, name, index]).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
