"""Adapters that change something, and a batch to send through them."""

import torch

from fewshot.diffusion.lora import LoraPair, StackedLora, initial_pairs, sites
from fewshot.diffusion.random_draws import seeded_generator
from tests.tiny_diffusion import LATENTS, tiny_diffusion

K, RANK, TOKENS = 4, 3, 6
SCALE = 0.6


def random_pairs(layers, keys, *, rank=RANK, seed=0):
    """As after training: B is not zero."""
    return {
        site: LoraPair(pair.A, torch.stack([_random(pair.B[0], seed, key, site) for key in keys]))
        for site, pair in initial_pairs(layers, keys, rank=rank, seed=seed).items()
    }


def _random(like, seed, key, site):
    return 0.3 * torch.randn(like.shape, generator=seeded_generator(seed, "B", key, site))


def random_stack(count=K, *, seed=0):
    backbone = tiny_diffusion()
    keys = [f"class {k}" for k in range(count)]
    return StackedLora(
        random_pairs(sites(backbone.unet), keys, seed=seed),
        random_pairs(sites(backbone.text_encoder), keys, seed=seed),
    )


def batch(rows, *, seed=0):
    """Latents, steps and contexts of a forward, each row different."""
    generator = torch.Generator().manual_seed(seed)
    width = tiny_diffusion().unet.config.cross_attention_dim
    return (
        torch.randn(rows, *LATENTS, generator=generator),
        torch.randint(0, 1000, (rows,), generator=generator),
        torch.randn(rows, TOKENS, width, generator=generator),
    )
