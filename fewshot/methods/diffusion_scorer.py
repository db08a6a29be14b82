"""The interface of methods that score images with a diffusion model: noise errors, compared over classes."""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor

from fewshot.classes import LabelSpace
from fewshot.diffusion.adapter_training import AdapterSettings
from fewshot.diffusion.image_sampling import PriorImages


class DiffusionScorer(Protocol):
    """A frozen, keyword-only dataclass of hyperparameters, each with a default.

    An image's score for a class is the mean of w_t · e(class, t) over time-steps t (`fewshot.diffusion.noise_errors`),
    and the smallest wins. The method defines the prompt of a class, whether adapters are trained for it, and the
    weights of the time-steps.

    Class attributes:
        name: the name in `DIFFUSION_SCORERS` and in job files.
    """

    name: ClassVar[str]

    def prompts(self, label_space: LabelSpace) -> tuple[str, ...]:
        """Return K prompts, one for each class."""
        ...

    def adapter_settings(self, *, latent_side: int, shots: int) -> AdapterSettings | None:
        """Return how the adapters of a class are trained; None for a method that trains none.

        Args:
            latent_side: h = w of the latents of the backbone; 64 for Stable Diffusion at 512 pixels.
            shots: images of the class.
        """
        ...

    def prior(self, *, latent_side: int) -> PriorImages | None:
        """Return which images the adapters of all classes should leave unchanged; None for no such images.

        Args:
            latent_side: see `adapter_settings`.
        """
        ...

    def weights(self, latents: Tensor, labels: Tensor, *, num_steps: int) -> Tensor:
        """Return the weights of the time-steps.

        Args:
            latents: [M, C, h, w] float32, mean latents of the examples.
            labels: [M] int64.
            num_steps: T.

        Returns:
            [T] float64, >= 0, not all 0.
        """
        ...
