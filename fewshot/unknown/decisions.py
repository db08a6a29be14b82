"""The test of images of no class at a rate of known images lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from fewshot.conformal import rejected_ranks
from fewshot.unknown.nearest_example import NearestExample


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the test says of N images, on the CPU.

    Attributes:
        p_values: [N] float64 in (0, 1]: the rank of an image among itself and the examples, as a share of their number.
            An image of the classes that is drawn like the examples has a p-value of at most r with a probability of at
            most r.
        unknown: [N] bool, whether an image is of none of the classes: its p-value is at most the rate.
    """

    p_values: Tensor
    unknown: Tensor

    def __getitem__(self, index: Tensor) -> Decisions:
        """Return the images selected by an index [n] or a boolean mask [N]."""
        return Decisions(self.p_values[index], self.unknown[index])


@dataclass(frozen=True, slots=True)
class UnknownTest:
    """Examples to compare images with, and the rate of known images that may be lost.

    Attributes:
        examples: the examples.
        rate: in (0, 1).
    """

    examples: NearestExample
    rate: float

    def __post_init__(self) -> None:
        """Check the rate.

        Raises:
            DataError: it is out of range.
        """
        rejected_ranks(len(self.examples), share=self.rate)

    def __call__(self, images: Tensor) -> Decisions:
        """Test images.

        Args:
            images: [N, D] features of the frozen backbone, of any length, on any device; not those of a classifier that
                was tuned on the examples, to which other images would seem less close than they are.

        Returns:
            N results. One depends on that row of `images` only.
        """
        ranks = self.examples.ranks(images).cpu()
        rejected = rejected_ranks(len(self.examples), share=self.rate)
        return Decisions(ranks.double() / (len(self.examples) + 1), ranks <= rejected)

    def to(self, device: torch.device | str) -> Self:
        """Return a copy with the examples on another device."""
        return replace(self, examples=self.examples.to(device))
