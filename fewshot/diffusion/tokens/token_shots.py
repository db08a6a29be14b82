"""The shots that tokens are trained on, and the samples that one class draws from them in a step."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.diffusion.random_draws import seeded_generator
from fewshot.errors import DataError
from fewshot.optimization.shots import Shots
from fewshot.problem import Problem


@dataclass(frozen=True, slots=True)
class TokenShots:
    """M shots of the C classes that have any, grouped by class, in an order that comes from their content.

    Attributes:
        latents: [M, 2, c, h, w] float32, see `Labelled.latents`.
        bank: [M · V, D] float32, unit rows: every view of every image. A positive factor on a feature changes nothing.
        counts: [C] int64, images of each class, >= 1.
        keys: C names, hashes of the classes' own latents; their random numbers derive from them.
        classes: [C] int64, the labels.
        bank_key: a hash of the content of the bank.
    """

    latents: Tensor
    bank: Tensor
    counts: Tensor
    keys: tuple[str, ...]
    classes: Tensor
    bank_key: str

    @classmethod
    def from_problem(cls, problem: Problem) -> TokenShots:
        """Group the shots of a problem: the same bits in any order of the shots and any numbering of the classes.

        Raises:
            DataError: the images have no latents.
        """
        if problem.support.latents is None:
            raise DataError("this method trains on latents of a diffusion model, but these images have none")
        shots = Shots.from_problem(problem)
        grouped = shots.labels.argsort(stable=True)
        counts = torch.bincount(shots.labels, minlength=len(shots.classes))
        views, latents = shots.views[grouped], problem.support.latents[shots.rows[grouped]]
        keys = tuple(_digest(own) for own in torch.split(latents, counts.tolist()))
        bank = normalize(views, dim=-1).flatten(0, 1)
        return cls(latents, bank, counts, keys, shots.classes, _digest(bank))

    def __len__(self) -> int:
        """C."""
        return len(self.counts)

    @property
    def starts(self) -> Tensor:
        """[C] int64: the first row of each class in `latents`."""
        return self.counts.cumsum(0) - self.counts

    @property
    def views(self) -> int:
        """V."""
        return len(self.bank) // max(1, len(self.latents))


@dataclass(frozen=True, slots=True)
class TokenSamples:
    """The samples of a training step, a row for each class and each of its b images.

    Attributes:
        latents: [B, c, h, w] float32, samples of the posterior.
        noise: [B, c, h, w] float32.
        steps: [B] int64 in [0, T).
        prompts: [B] int64 in [0, P).
        chosen: [B, C] int64, rows of the bank: one of every class.
        targets: [B] int64 in [0, C), the class of each row.
    """

    latents: Tensor
    noise: Tensor
    steps: Tensor
    prompts: Tensor
    chosen: Tensor
    targets: Tensor


def draw_token_samples(
    shots: TokenShots, block: list[int], *, step: int, images: int, prompts: int, times: int, seed: int
) -> TokenSamples:
    """Draw the samples of some classes in one step; those of a class depend on (seed, its key, step) alone.

    Args:
        shots: of all classes.
        block: G classes in [0, C).
        step: number of the training step.
        images: b, of each class.
        prompts: P, number of prompts.
        times: T, time-steps of the model.
        seed: of the training.
    """
    settings = {"step": step, "images": images, "prompts": prompts, "times": times, "seed": seed}
    parts = [_draw_class_samples(shots, c, **settings) for c in block]
    return TokenSamples(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _draw_class_samples(
    shots: TokenShots, c: int, *, step: int, images: int, prompts: int, times: int, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = seeded_generator(seed, "token", shots.keys[c], step)
    rows = shots.starts[c] + torch.randint(int(shots.counts[c]), (images,), generator=generator)
    mean, std = shots.latents[rows].unbind(dim=1)
    posterior, noise = torch.randn(2, *mean.shape, generator=generator)
    steps = torch.randint(times, (images,), generator=generator)
    prompt_numbers = torch.randint(prompts, (images,), generator=generator)
    sizes = shots.counts * shots.views
    position = torch.rand(images, len(shots), generator=generator, dtype=torch.float64) * sizes
    chosen = shots.starts * shots.views + position.long()
    return mean + std * posterior, noise, steps, prompt_numbers, chosen, torch.full((images,), c)


def _digest(tensor: Tensor) -> str:
    return hashlib.blake2b(tensor.detach().cpu().contiguous().numpy().tobytes(), digest_size=16).hexdigest()
