"""TiF learner (CVPR 2024, arXiv 2403.02649): a LoRA for each class, and time-steps weighted by what they lose.

Each class's adapters learn to restore its images from noise. An image is given to the class whose adapters predict its
noise best, time-steps weighted by how much of what they lose is nuanced (`fewshot.diffusion.time_step_weights`).
Adapters of a class depend on that class alone, so adding one costs one.

Defaults that are None follow the size of the model. For Stable Diffusion they are the published ones: rank 16, blocks
by the number of shots, rates 1e-4 and 5e-5, one sample a step, s = 0.6 and 0.7, and the steps of the checkpoint that
the paper's FGVC runs used. For models of small pictures, like the embedded one, they are what its adapters learn well
with on classes kept from its training: rank 8 in all blocks, rates 2e-3 and 1e-3, 250 steps of four stratified samples,
s = 1.

Where we differ from the authors' code: see `fewshot.diffusion.adapter_training` and `sampling`. Models of small
pictures learn without prior images: on the embedded one they cost more than the adapters. Prompts contain the names of
classes where there are any; `use_names = false` gives all classes one prompt, as the paper does for people and cars.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from fewshot.classes import LabelSpace
from fewshot.diffusion.adapter_training import AdapterSettings
from fewshot.diffusion.image_sampling import PriorImages
from fewshot.diffusion.lora import BlockFilter, block_filter_for
from fewshot.diffusion.time_step_weights import attribute_weights, linear_alphas_cumprod, nuanced_size
from fewshot.methods.hyperparameters import check_choice, check_number, check_template

Weighting = Literal["attributes", "uniform"]
SMALL_SIDE = 16
"""Models with latents up to this side take the defaults of the embedded one."""
PUBLISHED_STEPS = {1: 60, 2: 100, 4: 200, 8: 700, 16: 1000}
"""By shots: the checkpoints that the FGVC results are of."""
PUBLISHED_PRIOR_IMAGES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Tif:
    """Hyperparameters of TiF, see `DiffusionScorer`. None follows the size of the model, see the module.

    Attributes:
        steps: steps of gradient descent, >= 1.
        rank: rank of the adapters, >= 1.
        blocks: the UNet blocks without adapters: "none" of them, or those of the shallowest ("all-1") or the two
            shallowest resolutions ("all-2").
        samples: samples of a class in a step, >= 1.
        unet_rate: learning rate of the adapters of the UNet, >= 0.
        text_rate: learning rate of the adapters of the text encoder, >= 0.
        unet_scale: scale s of the adapters of the UNet in inference, >= 0.
        text_scale: scale s of the adapters of the text encoder in inference, >= 0.
        prior_images: images drawn with the frozen model that the adapters should still draw (prior preservation), >= 0;
            100 as published, 0 for none.
        prior_prompt: the prompt of these images; it names no class.
        weighting: weights of the time-steps: "attributes" as published, or "uniform".
        template: a prompt with one "{}" for the name of the class.
        rare_word: a word before the name in the prompt.
        use_names: whether prompts contain the names of the classes.
    """

    name: ClassVar[str] = "tif"

    steps: int | None = None
    rank: int | None = None
    blocks: BlockFilter | None = None
    samples: int | None = None
    unet_rate: float | None = None
    text_rate: float | None = None
    unet_scale: float | None = None
    text_scale: float | None = None
    prior_images: int | None = None
    prior_prompt: str = "a picture"
    weighting: Weighting = "attributes"
    template: str = "a picture of a {}"
    rare_word: str = "hta"
    use_names: bool = True

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        for name in ("unet_rate", "text_rate", "unet_scale", "text_scale"):
            check_number(f"tif.{name}", getattr(self, name))
        for name in ("steps", "rank", "samples"):
            check_number(f"tif.{name}", getattr(self, name), low=1.0)
        check_number("tif.prior_images", self.prior_images)
        if self.blocks is not None:
            check_choice("tif.blocks", self.blocks, get_args(BlockFilter))
        check_choice("tif.weighting", self.weighting, get_args(Weighting))
        check_template("tif.template", self.template)

    def prompts(self, label_space: LabelSpace) -> tuple[str, ...]:
        """See `DiffusionScorer.prompts`."""
        named = (f"{self.rare_word} {name}" if self.use_names else self.rare_word for name in label_space.prompt_names)
        return tuple(self.template.replace("{}", name) for name in named)

    def adapter_settings(self, *, latent_side: int, shots: int) -> AdapterSettings:
        """See `DiffusionScorer.adapter_settings`."""
        small = latent_side <= SMALL_SIDE
        defaults = _small() if small else _published(shots)
        given = {name: value for name in defaults if (value := getattr(self, name, None)) is not None}
        weight = 0.0 if self.prior(latent_side=latent_side) is None else 1.0
        return AdapterSettings(**defaults | given, stratified=small, prior_weight=weight)

    def prior(self, *, latent_side: int) -> PriorImages | None:
        """See `DiffusionScorer.prior`."""
        published = 0 if latent_side <= SMALL_SIDE else PUBLISHED_PRIOR_IMAGES
        count = published if self.prior_images is None else self.prior_images
        return PriorImages(prompt=self.prior_prompt, count=count) if count else None

    def weights(self, latents: Tensor, labels: Tensor, *, num_steps: int) -> Tensor:
        """See `DiffusionScorer.weights`; uniform, too, where there is but one class to take the nuanced size from."""
        if self.weighting == "uniform" or len(labels.unique()) < 2:  # type: ignore[no-untyped-call]
            return torch.ones(num_steps, dtype=torch.float64)
        return attribute_weights(linear_alphas_cumprod(num_steps), nuanced_size(latents, labels))


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
    }


def _published(shots: int) -> dict[str, Any]:
    known = sorted(PUBLISHED_STEPS)
    nearest = known[max(0, bisect.bisect_right(known, shots) - 1)]
    return {
        "steps": PUBLISHED_STEPS[nearest],
        "rank": 16,
        "blocks": block_filter_for(shots),
        "samples": 1,
        "unet_rate": 1e-4,
        "text_rate": 5e-5,
        "unet_scale": 0.6,
        "text_scale": 0.7,
    }
