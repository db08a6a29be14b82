"""What tokens are learned from, and what one class draws from it in one step."""

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
        keys: C names that come from the classes' own latents alone; their random numbers derive from them.
        classes: [C] int64, the labels.
        bank_key: a name for the content of the bank.
    """

    latents: Tensor
    bank: Tensor
    counts: Tensor
    keys: tuple[str, ...]
    classes: Tensor
    bank_key: str

    @classmethod
    def from_problem(cls, problem: Problem) -> TokenShots:
        """The same shots, bit for bit, however they were listed and their classes numbered.

        Raises:
            DataError: the images come without latents.
        """
        if problem.support.latents is None:
            raise DataError("this method learns from latents of a diffusion model, but these images come without")
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
class Draw:
    """What classes draw in a step, a row for each class and each of its b images.

    Attributes:
        latents: [B, c, h, w] float32, samples of the posterior.
        noise: [B, c, h, w] float32.
        steps: [B] int64 in [0, T).
        prompts: [B] int64 in [0, P).
        chosen: [B, C] int64, rows of the bank: one of every class.
        targets: [B] int64 in [0, C): which class each row is of.
    """

    latents: Tensor
    noise: Tensor
    steps: Tensor
    prompts: Tensor
    chosen: Tensor
    targets: Tensor


def draw(shots: TokenShots, block: list[int], *, step: int, images: int, prompts: int, times: int, seed: int) -> Draw:
    """One step's draws of some classes; those of a class depend on (seed, its key, step) and no other class.

    Args:
        shots: what from.
        block: G classes in [0, C).
        step: of the training.
        images: b, of each class.
        prompts: P.
        times: T, time-steps of the model.
        seed: of the training.
    """
    parts = [_draw(shots, c, step=step, images=images, prompts=prompts, times=times, seed=seed) for c in block]
    return Draw(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _draw(
    shots: TokenShots, c: int, *, step: int, images: int, prompts: int, times: int, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = seeded_generator(seed, "token", shots.keys[c], step)
    rows = shots.starts[c] + torch.randint(int(shots.counts[c]), (images,), generator=generator)
    mean, std = shots.latents[rows].unbind(dim=1)
    posterior, noise = torch.randn(2, *mean.shape, generator=generator)
    steps = torch.randint(times, (images,), generator=generator)
    said = torch.randint(prompts, (images,), generator=generator)
    sizes = shots.counts * shots.views
    which = torch.rand(images, len(shots), generator=generator, dtype=torch.float64) * sizes
    chosen = shots.starts * shots.views + which.long()
    return mean + std * posterior, noise, steps, said, chosen, torch.full((images,), c)


def _digest(tensor: Tensor) -> str:
    return hashlib.blake2b(tensor.detach().cpu().contiguous().numpy().tobytes(), digest_size=16).hexdigest()
