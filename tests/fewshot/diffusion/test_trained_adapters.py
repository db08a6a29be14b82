"""Adapters on the embedded model separate details at small time-steps and backgrounds at large ones."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from fewshot.backbones.diffusion import DiffusionSpec, load_diffusion
from fewshot.demo.scenes import draw_scenes, load_glyphs, render, with_colour
from fewshot.diffusion.adapter_training import AdapterSettings, train_adapters
from fewshot.diffusion.noise_errors import Queries, class_contexts, noise_errors
from fewshot.diffusion.random_draws import LatentImages

CLASSES = tuple(product((0, 1), (0, 4)))  # An emoji, never shown to the model, on red or on blue.
SETTINGS = AdapterSettings(steps=60, rank=4, samples=4, unet_rate=4e-3, text_rate=2e-3, stratified=True)
PROMPT = "a picture of a hta"


def latents_of(backbone, emoji, colour, count, seed):
    """[count, 2, C, h, w]: pictures of one class."""
    glyph = torch.full((count,), load_glyphs().held_out[emoji])
    scenes = draw_scenes(glyph, generator=torch.Generator().manual_seed(seed))
    drawn = render(with_colour(scenes, torch.full((count,), colour)), load_glyphs())
    return torch.stack(backbone.posterior((drawn * 255).round().to(torch.uint8)), dim=1)


@pytest.mark.slow
def test_small_time_steps_separate_details_and_large_ones_backgrounds():
    backbone = load_diffusion(DiffusionSpec(batch_size=32))
    (ids,) = backbone.token_ids([PROMPT])
    classes = []
    for seed, (emoji, colour) in enumerate(CLASSES):
        mean, std = latents_of(backbone, emoji, colour, 4, seed).unbind(dim=1)
        classes.append(LatentImages(f"{emoji} {colour}", mean, std, ids))
    adapters = train_adapters(backbone, classes, SETTINGS, block_size=len(CLASSES), seed=0)

    steps, count = torch.arange(25, 1000, 50), 4
    images = torch.cat([latents_of(backbone, *c, count, 100 + i)[:, 0] for i, c in enumerate(CLASSES)])
    N, K, n = len(images), len(CLASSES), len(steps)
    image, label, step = (i.flatten() for i in torch.meshgrid(*map(torch.arange, (N, K, n)), indexing="ij"))
    errors = noise_errors(
        backbone,
        images,
        [str(i) for i in range(N)],
        class_contexts(backbone, [PROMPT] * K, adapters),
        Queries(image, label, steps[step]),
        seed=0,
        adapters=adapters.unet,
    ).view(K, count, K, n)
    own = torch.stack([errors[k, :, k] for k in range(K)]).mean(dim=(0, 1))
    other_emoji = torch.stack([errors[k, :, (k + 2) % 4] for k in range(K)]).mean(dim=(0, 1)) - own
    other_colour = torch.stack([errors[k, :, k ^ 1] for k in range(K)]).mean(dim=(0, 1)) - own
    assert (other_emoji > 0).all()  # The right adapters explain the picture best.
    assert (other_colour > 0).all()
    assert (other_emoji > other_colour)[steps < 600].all()
    assert (other_colour > other_emoji)[steps > 850].all()
    assert late_share(other_colour, steps) > 3 * late_share(other_emoji, steps)


def late_share(gap, steps):
    """The share of a gap beyond time-step 700."""
    return float(gap[steps > 700].sum() / gap.sum())
