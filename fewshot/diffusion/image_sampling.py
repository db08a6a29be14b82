"""Sample the prior images, which a class's adapters should leave as they are (DreamBooth, arXiv 2208.12242).

The sampler is DDIM (arXiv 2010.02502, equation 12 with sigma = 0) with classifier-free guidance (arXiv 2207.12598).
Every image begins with noise of its own, derived from (seed, prompt, number), and every forward has `batch_size` rows:
an image has the same bits in any batch.

Where we differ from the TiF authors' code: it decodes the images, jitters them and encodes them again; here they stay
the latents that the UNet made, unless training jitters them. It takes the pipeline's own scheduler (PNDM in Stable
Diffusion 2), and no seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fewshot.backbones.determinism import pad_with_zeros
from fewshot.diffusion.random_draws import seeded_generator
from fewshot.errors import DataError

if TYPE_CHECKING:
    from fewshot.backbones.diffusion import DiffusionBackbone


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorImages:
    """Settings of the prior images. Defaults are the published values.

    Attributes:
        prompt: of the images; it names no class.
        count: number of images, >= 1.
        steps: of the sampler, >= 1: each takes two forwards an image.
        guidance: scale of the guidance; 1 is none.
    """

    prompt: str
    count: int = 100
    steps: int = 50
    guidance: float = 7.5

    @property
    def forwards(self) -> int:
        """Forwards that sampling one image takes."""
        return 2 * self.steps


@torch.inference_mode()
def sample_images(backbone: DiffusionBackbone, images: PriorImages, numbers: Sequence[int], *, seed: int) -> Tensor:
    """Sample some of the prior images.

    Args:
        backbone: the model, without adapters.
        images: settings of the images.
        numbers: n image numbers, each in [0, count).
        seed: of the noise.

    Returns:
        [n, C, h, w] float32 on the CPU: latents, scaled as the UNet takes them.

    Raises:
        DataError: the sampler has as many steps as the model, or more.
    """
    if images.steps >= len(backbone.alphas_cumprod):
        raise DataError(f"expected fewer steps than the model's {len(backbone.alphas_cumprod)}, got {images.steps}")
    contexts = backbone.embed_texts([images.prompt, ""])
    start = [
        torch.randn(*backbone.latent_shape, generator=seeded_generator(seed, "prior", images.prompt, number))
        for number in numbers
    ]
    parts = torch.split(torch.stack(start), backbone.batch_size)
    return torch.cat([_denoise(backbone, images, part, contexts) for part in parts])


def _denoise(backbone: DiffusionBackbone, images: PriorImages, noise: Tensor, contexts: Tensor) -> Tensor:
    """Denoise at most `batch_size` images, [n, C, h, w]; contexts [2, L, width] are of the prompt and of no prompt."""
    scheduler = _scheduler(backbone.alphas_cumprod, images.steps)
    latents = pad_with_zeros(noise, backbone.batch_size).to(backbone.device)
    conditional, unconditional = (context.expand(backbone.batch_size, -1, -1) for context in contexts)
    for step in scheduler.timesteps:
        steps = step.expand(backbone.batch_size)
        free = backbone.predict(latents, steps, unconditional)
        guided = free + images.guidance * (backbone.predict(latents, steps, conditional) - free)
        latents = scheduler.step(guided, step, latents).prev_sample
    return latents.float().cpu()[: len(noise)]


def _scheduler(alphas_cumprod: Tensor, steps: int):  # type: ignore[no-untyped-def]
    """Return diffusers' DDIM scheduler for a model that predicts noise."""
    from diffusers import DDIMScheduler

    before = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    scheduler = DDIMScheduler(
        num_train_timesteps=len(alphas_cumprod),
        trained_betas=(1.0 - alphas_cumprod / before).numpy(),
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )
    scheduler.set_timesteps(steps)
    return scheduler
