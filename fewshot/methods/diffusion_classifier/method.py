"""Diffusion Classifier (Li et al., ICCV 2023, arXiv 2303.16203): zero-shot, by the errors of the predicted noise.

p(class | image) rises as the mean error over time-steps falls, when the prompt contains the name of the class.
Time-steps have equal weights, and all classes the same noise. Nothing is learned, so the examples play no part.

As published it scores 500 time-steps at equal distance, 1, 3, ..., 999, in stages: `steps = 500` and `schedule =
"published"` under [escalate]; the default spacing gives 0, 2, ..., 998 there. Where we differ: see
`fewshot.diffusion.noise_errors` and `elimination`, and a class has one prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from fewshot.classes import LabelSpace
from fewshot.diffusion.adapter_training import AdapterSettings
from fewshot.diffusion.image_sampling import PriorImages
from fewshot.diffusion.noise_errors import ErrorNorm
from fewshot.diffusion.recipe_settings import ScoringSettings
from fewshot.diffusion.time_grid import Spacing
from fewshot.methods.hyperparameters import Recipe, check_choice, check_template


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionClassifier:
    """Hyperparameters of the Diffusion Classifier, see `DiffusionScorer`.

    Attributes:
        recipe: "published" scores time-steps at equal distance, unless `spacing` is set.
        template: a prompt with one "{}" for the name of the class.
        spacing: of the time-steps: "by-weight", which is the middles of equal parts here, or "even".
        norm: of the noise errors: "l2", squared differences, or "l1", absolute ones, as published for CIFAR-10, Pets,
            Flowers and STL-10.
    """

    name: ClassVar[str] = "diffusion_classifier"

    recipe: Recipe = "default"
    template: str = "a picture of a {}"
    spacing: Spacing | None = None
    norm: ErrorNorm = "l2"

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            DataError: the template has no place for the name, or a choice is unknown.
        """
        check_template(f"{self.name}.template", self.template)
        check_choice(f"{self.name}.recipe", self.recipe, get_args(Recipe))
        check_choice(f"{self.name}.norm", self.norm, get_args(ErrorNorm))
        if self.spacing is not None:
            check_choice(f"{self.name}.spacing", self.spacing, get_args(Spacing))

    @property
    def scoring(self) -> ScoringSettings:
        """See `DiffusionScorer.scoring`."""
        default: Spacing = "even" if self.recipe == "published" else "by-weight"
        return ScoringSettings(spacing=self.spacing or default, norm=self.norm)

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
