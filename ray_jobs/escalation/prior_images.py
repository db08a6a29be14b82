"""Prior images: drawn once with the model as it is, for all classes together, and kept as latents."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from cluster import Part, Unit, fingerprint
from fewshot.backbones.diffusion.diffusion_spec import DiffusionSpec
from ray_jobs.steps.diffusion_worker import DiffusionWorker
from ray_jobs.steps.latents import Latents, encoded, get_latents, latents_folder

if TYPE_CHECKING:
    from fewshot.diffusion.image_sampling import PriorImages
    from fewshot.diffusion.random_draws import LatentImages

PRIOR_VERSION = 1
"""Part of every name of prior images: raised when drawing changes."""
IMAGES_A_UNIT = 10
KEY = "prior images"


@dataclass(frozen=True, slots=True)
class PriorUnit:
    """Some of the images.

    Attributes:
        images: all of them.
        numbers: which.
        seed: of their noise.
    """

    images: PriorImages
    numbers: tuple[int, ...]
    seed: int

    def run(self, worker: DiffusionWorker) -> Part:
        """Draw them."""
        from fewshot.diffusion.image_sampling import sample_images

        mean = sample_images(worker.backbone, self.images, self.numbers, seed=self.seed).numpy()
        keys = tuple(str(number) for number in self.numbers)
        posterior = np.stack([mean, np.zeros_like(mean)], axis=1)
        latents = Latents(keys, (None,) * len(keys), posterior, len(worker.backbone.alphas_cumprod))
        return Part(encoded(latents), {"images": len(keys)})


def prior_units(spec: DiffusionSpec, images: PriorImages | None, *, seed: int) -> list[Unit]:
    """What draws the images; nothing where there are none."""
    if images is None:
        return []
    blocks = [
        tuple(range(start, min(start + IMAGES_A_UNIT, images.count))) for start in range(0, images.count, IMAGES_A_UNIT)
    ]
    name = fingerprint([PRIOR_VERSION, asdict(images), seed])
    return [
        Unit(
            f"{latents_folder(spec)}/prior/{name}/part-{block[0]:04d}.safetensors",
            PriorUnit(images, block, seed),
            len(block),
        )
        for block in blocks
    ]


def get_prior(worker: DiffusionWorker, parts: tuple[str, ...], prompt: str) -> LatentImages | None:
    """The images that some parts hold; None for no parts."""
    import torch

    from fewshot.diffusion.random_draws import LatentImages

    if not parts:
        return None
    posterior = np.concatenate([get_latents(worker.store, part).posterior for part in parts])
    mean, std = torch.from_numpy(posterior).unbind(dim=1)
    (ids,) = worker.backbone.token_ids([prompt])
    return LatentImages(KEY, mean, std, ids)
