"""TiF learner (CVPR 2024, arXiv 2403.02649): a LoRA for each class, and time-steps weighted by what they lose.

Each class's adapters learn to restore its images from noise. An image is given to the class whose adapters predict its
noise best, time-steps weighted by how much of what they lose is nuanced (`fewshot.diffusion.time_step_weights`).
Adapters of a class depend on that class alone, so adding one costs one.

Defaults that are None follow the recipe and the size of the model. With `recipe = "published"` they are those of the
authors' runs on a data set (`published_runs`), weights multiply the errors at time-steps of equal distance, and images
are jittered in training; with `steps = 500` and `schedule = "published"` under [escalate], and all classes as
candidates, these are the published 500 steps and stages. With the default recipe, Stable Diffusion is trained like the
FGVC runs but for jitter, and time-steps are spaced by their weights, which takes a few dozen of them instead of 500.
Models of small pictures, like the embedded one, take what its adapters learn well with on classes kept from its
training: rank 8 in all blocks, rates 2e-3 and 1e-3, 250 steps of four stratified samples, s = 1, and no prior images,
which cost more than the adapters there.

Where we differ from the authors' code in either recipe: see `fewshot.diffusion.adapter_training`, `image_sampling`,
`noise_errors` and `elimination`; and Duke's pictures are scored with the prompt of their training, not another one.
Prompts contain the names of classes where there are any; `use_names = false` gives all classes one prompt, as the paper
does for people and cars.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from fewshot.classes import LabelSpace
from fewshot.diffusion.adapter_training import AdapterSettings
from fewshot.diffusion.image_sampling import PriorImages
from fewshot.diffusion.lora import BlockFilter, block_filter_for
from fewshot.diffusion.noise_errors import ErrorNorm
from fewshot.diffusion.recipe_settings import LossTarget, ScoringSettings, is_small
from fewshot.diffusion.time_grid import Spacing
from fewshot.diffusion.time_step_weights import attribute_weights, linear_alphas_cumprod, nuanced_size
from fewshot.methods.hyperparameters import MAX_RANK, Recipe, check_choice, check_count, check_number, check_template
from fewshot.methods.tif.published_runs import PRIOR_IMAGES, PUBLISHED_RUNS, PublishedDataSet, PublishedRuns

Weighting = Literal["attributes", "uniform"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tif:
    """Hyperparameters of TiF, see `DiffusionScorer`. None follows recipe and size of the model, see the module.

    Attributes:
        recipe: "published" takes the authors' settings for what is not set.
        data_set: whose published runs are followed: for rank and steps with Stable Diffusion in either recipe, for
            prompts and the first checkpoint in the published one.
        steps: steps of gradient descent, >= 1.
        rank: rank of the adapters, >= 1.
        blocks: the UNet blocks without adapters: "none" of them, or those of the shallowest ("all-1") or the two
            shallowest resolutions ("all-2").
        samples: samples of a class in a step, >= 1.
        unet_rate: learning rate of the adapters of the UNet, >= 0.
        text_rate: learning rate of the adapters of the text encoder, >= 0.
        unet_scale: scale s of the adapters of the UNet in inference, >= 0.
        text_scale: scale s of the adapters of the text encoder in inference, >= 0.
        full_scale_steps: steps of training with s = 1, after which s is that of inference, >= 0. Not set: all steps,
            or, as published, those before the first checkpoint.
        jitter: whether brightness and contrast of the images are changed anew in each step, which costs an encoding.
        target: what the loss of training compares: the "noise", or the "prediction" of the UNet, as diffusers does.
            They differ for models that predict velocity.
        prior_images: images drawn with the frozen model that the adapters should still draw (prior preservation), >= 0;
            100 as published, 0 for none.
        prior_prompt: the prompt of these images; it names no class.
        weighting: weights of the time-steps: "attributes" as published, or "uniform".
        spacing: of the time-steps: "by-weight", where they count the same, or "even" with their weights, as published.
        norm: of the noise errors: "l2", squared differences, as published, or "l1", absolute ones.
        template: a prompt with one "{}" for the name of the class.
        rare_word: a word before the name in the prompt.
        use_names: whether prompts contain the names of the classes.
    """

    name: ClassVar[str] = "tif"

    recipe: Recipe = "default"
    data_set: PublishedDataSet = "fgvc"
    steps: int | None = None
    rank: int | None = None
    blocks: BlockFilter | None = None
    samples: int | None = None
    unet_rate: float | None = None
    text_rate: float | None = None
    unet_scale: float | None = None
    text_scale: float | None = None
    full_scale_steps: int | None = None
    jitter: bool | None = None
    target: LossTarget | None = None
    prior_images: int | None = None
    prior_prompt: str | None = None
    weighting: Weighting = "attributes"
    spacing: Spacing | None = None
    norm: ErrorNorm = "l2"
    template: str | None = None
    rare_word: str = "hta"
    use_names: bool | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        for name in ("unet_rate", "text_rate", "unet_scale", "text_scale"):
            check_number(f"tif.{name}", getattr(self, name))
        for name, low in {"steps": 1, "samples": 1, "prior_images": 0, "full_scale_steps": 0}.items():
            check_count(f"tif.{name}", getattr(self, name), low=low)
        check_count("tif.rank", self.rank, low=1, high=MAX_RANK)
        choices = {
            "recipe": Recipe,
            "data_set": PublishedDataSet,
            "blocks": BlockFilter,
            "target": LossTarget,
            "weighting": Weighting,
            "spacing": Spacing,
            "norm": ErrorNorm,
        }
        for name, kind in choices.items():
            if getattr(self, name) is not None:
                check_choice(f"tif.{name}", getattr(self, name), get_args(kind))
        check_template("tif.template", self._template)

    @property
    def scoring(self) -> ScoringSettings:
        """See `DiffusionScorer.scoring`."""
        default: Spacing = "even" if self._is_published else "by-weight"
        return ScoringSettings(spacing=self.spacing or default, norm=self.norm)

    def prompts(self, label_space: LabelSpace) -> tuple[str, ...]:
        """See `DiffusionScorer.prompts`."""
        use_names = self.use_names
        if use_names is None:
            use_names = not self._is_published or self._runs.use_names
        named = (f"{self.rare_word} {name}" if use_names else self.rare_word for name in label_space.prompt_names)
        return tuple(self._template.replace("{}", name) for name in named)

    def adapter_settings(self, *, latent_side: int, shots: int) -> AdapterSettings:
        """See `DiffusionScorer.adapter_settings`."""
        small = self._takes_small(latent_side)
        defaults = _small() if small else self._large(shots)
        given = {name: value for name in defaults if (value := getattr(self, name, None)) is not None}
        weight = 0.0 if self.prior(latent_side=latent_side) is None else 1.0
        return AdapterSettings(**defaults | given, stratified=small, prior_weight=weight)

    def prior(self, *, latent_side: int) -> PriorImages | None:
        """See `DiffusionScorer.prior`."""
        default = 0 if self._takes_small(latent_side) else PRIOR_IMAGES
        count = default if self.prior_images is None else self.prior_images
        prompt = self.prior_prompt or (self._runs.prior_prompt if self._is_published else "a picture")
        return PriorImages(prompt=prompt, count=count) if count else None

    def weights(self, latents: Tensor, labels: Tensor, *, num_steps: int) -> Tensor:
        """See `DiffusionScorer.weights`; uniform, too, where there is but one class to take the nuanced size from."""
        if self.weighting == "uniform" or len(labels.unique()) < 2:  # type: ignore[no-untyped-call]
            return torch.ones(num_steps, dtype=torch.float64)
        return attribute_weights(linear_alphas_cumprod(num_steps), nuanced_size(latents, labels))

    @property
    def _is_published(self) -> bool:
        return self.recipe == "published"

    @property
    def _runs(self) -> PublishedRuns:
        return PUBLISHED_RUNS[self.data_set]

    @property
    def _template(self) -> str:
        if self.template is not None:
            return self.template
        return self._runs.template if self._is_published else "a picture of a {}"

    def _takes_small(self, latent_side: int) -> bool:
        """Whether a model takes the settings of small ones."""
        return not self._is_published and is_small(latent_side)

    def _large(self, shots: int) -> dict[str, Any]:
        steps, first_checkpoint = self._runs.steps_for(shots)
        return {
            "steps": steps,
            "rank": self._runs.rank,
            "blocks": block_filter_for(shots),
            "samples": 1,
            "unet_rate": 1e-4,
            "text_rate": 5e-5,
            "unet_scale": 0.6,
            "text_scale": 0.7,
            "full_scale_steps": first_checkpoint if self._is_published else None,
            "jitter": self._is_published,
            "target": "prediction" if self._is_published else "noise",
        }


def _small() -> dict[str, Any]:
    return {
        "steps": 250,
        "rank": 8,
        "blocks": "none",
        "samples": 4,
        "unet_rate": 2e-3,
        "text_rate": 1e-3,
        "unet_scale": 1.0,
        "text_scale": 1.0,
        "full_scale_steps": None,
        "jitter": False,
        "target": "noise",
    }
