"""What every method offers that asks a diffusion model about an image: errors of its noise, compared over classes."""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor

from fewshot.classes import LabelSpace
from fewshot.diffusion.adapter_training import AdapterSettings
from fewshot.diffusion.image_sampling import PriorImages


class DiffusionScorer(Protocol):
    """A frozen, keyword-only dataclass of hyperparameters, each with a default.

    An image's score for a class is the mean of w_t · e(class, t) over time-steps t (`fewshot.diffusion.noise_errors`),
    and the smallest wins. The method says what the model is told of a class, whether adapters are learned for it, and
    how time-steps are weighted.

    Class attributes:
        name: the name in `DIFFUSION_SCORERS` and in job files.
    """

    name: ClassVar[str]

    def prompts(self, label_space: LabelSpace) -> tuple[str, ...]:
        """K, one for each class."""
        ...

    def adapter_settings(self, *, latent_side: int, shots: int) -> AdapterSettings | None:
        """How a class's adapters are learned; None for a method that learns none.

        Args:
            latent_side: h = w of the backbone's latents; 64 for Stable Diffusion at 512 pixels.
            shots: images of the class.
        """
        ...

    def prior(self, *, latent_side: int) -> PriorImages | None:
        """Images that the adapters of all classes should leave as they are; None for no such images.

        Args:
            latent_side: see `adapter_settings`.
        """
        ...

    def weights(self, latents: Tensor, labels: Tensor, *, num_steps: int) -> Tensor:
        """The weights of the time-steps.

        Args:
            latents: [M, C, h, w] float32, mean latents of the examples.
            labels: [M] int64.
            num_steps: T.

        Returns:
            [T] float64, >= 0, not all 0.
        """
        ...
