"""Prior images: sampled once from the model without adapters, for all classes together, and kept as latents."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from cluster import Part, Unit, fingerprint
from fewshot.backbones.diffusion.diffusion_spec import DiffusionSpec
from ray_jobs.steps.diffusion_worker import DiffusionWorker
from ray_jobs.steps.latents import Latents, get_latents, latents_folder

if TYPE_CHECKING:
    from fewshot.diffusion.image_sampling import PriorImages
    from fewshot.diffusion.random_draws import LatentImages

PRIOR_VERSION = 1
"""Part of every name of prior images: raised when sampling changes."""
IMAGES_PER_UNIT = 10
KEY = "prior images"


@dataclass(frozen=True, slots=True)
class PriorUnit:
    """Some of the prior images.

    Attributes:
        prior: all prior images.
        numbers: of the images of this unit.
        seed: of their noise.
    """

    prior: PriorImages
    numbers: tuple[int, ...]
    seed: int

    def run(self, worker: DiffusionWorker) -> Part:
        """Sample the images."""
        from fewshot.diffusion.image_sampling import sample_images

        with worker.device:
            mean = sample_images(worker.backbone, self.prior, self.numbers, seed=self.seed).numpy()
        keys = tuple(str(number) for number in self.numbers)
        posterior = np.stack([mean, np.zeros_like(mean)], axis=1)
        latents = Latents(keys, (None,) * len(keys), posterior, len(worker.backbone.alphas_cumprod))
        return Part(latents.to_bytes(), {"images": len(keys)})


def prior_units(spec: DiffusionSpec, prior: PriorImages | None, *, seed: int) -> list[Unit]:
    """Return the units that sample the prior images; none without a prior."""
    if prior is None:
        return []
    starts = range(0, prior.count, IMAGES_PER_UNIT)
    blocks = [tuple(range(start, min(start + IMAGES_PER_UNIT, prior.count))) for start in starts]
    folder = f"{latents_folder(spec)}/prior/{fingerprint([PRIOR_VERSION, asdict(prior), seed])}"
    return [
        Unit(f"{folder}/part-{block[0]:04d}.safetensors", PriorUnit(prior, block, seed), len(block)) for block in blocks
    ]


def get_prior(
    worker: DiffusionWorker, parts: tuple[str, ...], prompt: str, *, with_pixels: bool = False
) -> LatentImages | None:
    """Read the prior images of some parts, and decode them if their pixels are needed; None for no parts."""
    import torch

    from fewshot.diffusion.random_draws import LatentImages

    if not parts:
        return None
    posterior = np.concatenate([get_latents(worker.store, part).posterior for part in parts])
    mean, std = torch.from_numpy(posterior).unbind(dim=1)
    (ids,) = worker.backbone.token_ids([prompt])
    if not with_pixels:
        return LatentImages(KEY, mean, std, ids)
    with worker.device:
        return LatentImages(KEY, mean, std, ids, worker.backbone.decode_latents(mean))
