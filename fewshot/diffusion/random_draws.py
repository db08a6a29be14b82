"""Random numbers as a function of (seed, name): the noise of an image, and the samples of a training step.

All classes, stages and workers compare on the same (t, epsilon), which cancels most of the variance of a difference
between two classes (Diffusion Classifier, arXiv 2303.16203), and a resumed run gives the same labels. The authors' code
draws noise afresh for each image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fewshot.errors import DataError


def seeded_generator(seed: int, *name: str | int) -> torch.Generator:
    """Return a CPU generator that is seeded with a hash of the arguments, whatever was drawn before.

    Args:
        seed: of the experiment.
        name: identifies the draw, e.g. by purpose, class and step; "1" and 1 are different names.
    """
    digest = hashlib.blake2b(json.dumps([seed, *name]).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))


def image_noise(seed: int, key: str, step: int, shape: Sequence[int]) -> Tensor:
    """Return the standard normal noise of an image at a time-step.

    Args:
        seed: of the run.
        key: of the image.
        step: time-step in [0, T).
        shape: (C, h, w).

    Returns:
        float32 of that shape, on the CPU.
    """
    return torch.randn(*shape, generator=seeded_generator(seed, "noise", key, step))


@dataclass(frozen=True, slots=True)
class LatentImages:
    """Encoded images that share a prompt: the shots of a class, or prior images.

    Attributes:
        key: a name that is unique among the classes of the training; all randomness derives from it.
        mean: [S, C, h, w] float32, of the VAE's posterior, S >= 1. Their order matters: sort them by content first.
        std: [S, C, h, w] float32; zeros train on the mean.
        token_ids: [L] int64, the prompt.
        pixels: [S, 3, H, W] uint8, the images themselves, for training with jitter; None for training without.

    Raises:
        DataError: there is no image, or mean and std differ in shape, or pixels in number.
    """

    key: str
    mean: Tensor
    std: Tensor
    token_ids: Tensor
    pixels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.mean.ndim != 4 or not len(self.mean) or self.mean.shape != self.std.shape:
            shapes = f"{list(self.mean.shape)} and {list(self.std.shape)}"
            raise DataError(f"{self.key}: expected mean and std [S, C, h, w] of at least one image, got {shapes}")
        if self.pixels is not None and len(self.pixels) != len(self.mean):
            raise DataError(f"{self.key}: expected pixels of {len(self.mean)} images, got {len(self.pixels)}")


class TrainingSamples(NamedTuple):
    """n samples of a training step.

    Attributes:
        latents: [n, C, h, w] float32, drawn from the posterior.
        noise: [n, C, h, w] float32, the target of the prediction.
        steps: [n] int64 in [0, T).
    """

    latents: Tensor
    noise: Tensor
    steps: Tensor


def draw_samples(
    images: LatentImages,
    key: str,
    step: int,
    *,
    count: int,
    num_steps: int,
    stratified: bool,
    seed: int,
    encoded: tuple[Tensor, Tensor] | None = None,
) -> TrainingSamples:
    """Draw the samples of a training step for one class: a function of (seed, class, step) alone.

    Args:
        images: to draw from, in epochs: each is drawn once before any is drawn again.
        key: of the class that the samples are for: two classes that share prior images get other samples of them.
        step: number of the training step, >= 0.
        count: n >= 1.
        num_steps: T.
        stratified: one time-step in each of n equal parts of [0, T), in random order, instead of n independent ones.
        seed: of the training.
        encoded: mean and std [n, C, h, w] of the images drawn, where they were changed; None takes them as they are.
    """
    name = (key, images.key)
    generator = seeded_generator(seed, "draw", *name, step)
    rows = epoch_rows(len(images.mean), range(step * count, (step + 1) * count), seed, *name)
    mean, std = (images.mean[rows], images.std[rows]) if encoded is None else encoded
    steps = _time_steps(count, num_steps, stratified=stratified, generator=generator)
    posterior = torch.randn(mean.shape, generator=generator)
    return TrainingSamples(mean + std * posterior, torch.randn(mean.shape, generator=generator), steps)


def epoch_rows(size: int, positions: range, seed: int, *name: str) -> Tensor:
    """Return the rows at some positions of an endless sequence of epochs, each shuffled, [n] int64.

    Args:
        size: number of rows, >= 1.
        positions: n >= 1 successive ones, from 0.
        seed: of the training.
        name: of the sequence.
    """
    epochs = range(positions.start // size, (positions.stop - 1) // size + 1)
    orders = [torch.randperm(size, generator=seeded_generator(seed, "epoch", *name, epoch)) for epoch in epochs]
    begin = positions.start - epochs.start * size
    return torch.cat(orders)[begin : begin + len(positions)]


def _time_steps(count: int, num_steps: int, *, stratified: bool, generator: torch.Generator) -> Tensor:
    """[n] int64 in [0, T), each uniform."""
    if not stratified:
        return torch.randint(num_steps, (count,), generator=generator)
    part = torch.randperm(count, generator=generator, dtype=torch.float64)
    within = torch.rand(count, generator=generator, dtype=torch.float64)
    return ((part + within) / count * num_steps).long().clamp(max=num_steps - 1)
