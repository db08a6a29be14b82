"""Diffusion Classifier (Li et al., ICCV 2023, arXiv 2303.16203): zero-shot, by the errors of the predicted noise.

p(class | image) rises as the mean error over time-steps falls, when the prompt contains the name of the class.
Time-steps have equal weights, and all classes the same noise. Nothing is learned, so the examples play no part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot.classes import LabelSpace
from fewshot.diffusion.adapter_training import AdapterSettings
from fewshot.diffusion.image_sampling import PriorImages
from fewshot.methods.hyperparameters import check_template


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionClassifier:
    """Hyperparameters of the Diffusion Classifier, see `DiffusionScorer`.

    Attributes:
        template: a prompt with one "{}" for the name of the class.
    """

    name: ClassVar[str] = "diffusion_classifier"

    template: str = "a picture of a {}"

    def __post_init__(self) -> None:
        """Check the template.

        Raises:
            DataError: it has no place for the name.
        """
        check_template(f"{self.name}.template", self.template)

    def prompts(self, label_space: LabelSpace) -> tuple[str, ...]:
        """See `DiffusionScorer.prompts`."""
        return tuple(self.template.replace("{}", name) for name in label_space.prompt_names)

    def adapter_settings(self, *, latent_side: int, shots: int) -> AdapterSettings | None:
        """See `DiffusionScorer.adapter_settings`."""
        return None

    def prior(self, *, latent_side: int) -> PriorImages | None:
        """See `DiffusionScorer.prior`."""
        return None

    def weights(self, latents: Tensor, labels: Tensor, *, num_steps: int) -> Tensor:
        """See `DiffusionScorer.weights`: all the same."""
        return torch.ones(num_steps, dtype=torch.float64)
