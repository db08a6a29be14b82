"""Brightness and contrast of training images, changed anew in each step (TiF, arXiv 2403.02649, in code).

The factors are uniform in [0.8, 1.2] and [0.9, 1.1], the order of the two is random: torchvision's
`ColorJitter(0.2, 0.1)`, but for the random numbers, which derive from (seed, class, step).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import functional as pixels_of

from fewshot.diffusion.random_draws import LatentImages, epoch_rows, seeded_generator
from fewshot.errors import DataError

BRIGHTNESS, CONTRAST = 0.2, 0.1
"""Largest differences of the factors from 1."""


def jittered_pixels(images: LatentImages, key: str, step: int, *, count: int, seed: int) -> Tensor:
    """Return the images that `draw_samples` draws in a step, each with a brightness and a contrast of its own.

    Args:
        images: with pixels.
        key: of the class that the samples are for.
        step: number of the training step, >= 0.
        count: n >= 1.
        seed: of the training.

    Returns:
        [n, 3, H, W] uint8.

    Raises:
        DataError: the images have no pixels.
    """
    if images.pixels is None:
        raise DataError(f"{images.key}: jitter needs the pixels of the images, and there are only latents")
    name = (key, images.key)
    rows = epoch_rows(len(images.mean), range(step * count, (step + 1) * count), seed, *name)
    generator = seeded_generator(seed, "jitter", *name, step)
    return torch.stack([_jittered(images.pixels[row], generator) for row in rows.tolist()])


def _jittered(image: Tensor, generator: torch.Generator) -> Tensor:
    """[3, H, W] uint8."""
    by_brightness, by_contrast = torch.rand(2, generator=generator, dtype=torch.float64).mul(2.0).sub(1.0).tolist()
    changes = [
        lambda given: pixels_of.adjust_brightness(given, 1.0 + BRIGHTNESS * by_brightness),
        lambda given: pixels_of.adjust_contrast(given, 1.0 + CONTRAST * by_contrast),
    ]
    for number in torch.randperm(2, generator=generator).tolist():
        image = changes[number](image)
    return image
