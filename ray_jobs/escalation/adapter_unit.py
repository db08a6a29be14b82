"""Training adapters: a block of classes that share a batch in, one folder a class out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cluster import Part
from ray_jobs.escalation.prior_images import get_prior
from ray_jobs.output.layout import to_json
from ray_jobs.steps.adapter_files import is_trained, put_adapter
from ray_jobs.steps.diffusion_worker import DiffusionWorker
from ray_jobs.steps.latents import get_latents

if TYPE_CHECKING:
    from fewshot.diffusion.adapter_training import AdapterSettings
    from fewshot.diffusion.draws import LatentImages

ADAPTERS_VERSION = 1
"""Part of every class's fingerprint: raised when training changes."""


@dataclass(frozen=True, slots=True)
class Pupil:
    """A class that is to be learned.

    Attributes:
        label: of the class.
        prompt: what the model is told of it.
        latents: part of its examples' latents.
        folder: where its adapters go.
        withheld: rows of the part that are not learned from, unless nothing else could be read.
    """

    label: str
    prompt: str
    latents: str
    folder: str
    withheld: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class AdapterUnit:
    """Classes that are trained in one batch. Their adapters do not depend on which these are.

    Attributes:
        pupils: at most `block_size` classes.
        settings: how.
        block_size: classes of a batch; missing ones are filled up.
        seed: of the training.
        prior: parts of prior images, of which there may be none.
        prior_prompt: of these images.
    """

    pupils: tuple[Pupil, ...]
    settings: AdapterSettings
    block_size: int
    seed: int
    prior: tuple[str, ...] = ()
    prior_prompt: str = ""

    def run(self, worker: DiffusionWorker) -> Part:
        """Train the classes and store each; the part only says that it is done."""
        from fewshot.diffusion.adapter_training import train_adapters
        from fewshot.diffusion.lora import save_adapter

        left = [pupil for pupil in self.pupils if not is_trained(worker.store, pupil.folder)]
        if left:
            last: dict[str, list[float]] = {}
            stack = train_adapters(
                worker.backbone,
                [_images(worker, pupil) for pupil in left],
                self.settings,
                block_size=self.block_size,
                seed=self.seed,
                prior=get_prior(worker, self.prior, self.prior_prompt),
                on_step=lambda _, losses: last.update(losses=losses.tolist()),
            )
            for index, pupil in enumerate(left):
                card = {
                    "class": pupil.label,
                    "prompt": pupil.prompt,
                    "settings": asdict(self.settings),
                    "seed": self.seed,
                }
                put_adapter(
                    worker.store, pupil.folder, save_adapter(stack, index), card | {"last_loss": last["losses"][index]}
                )
        return Part(to_json([pupil.folder for pupil in self.pupils]), {"classes": len(self.pupils)})


def _images(worker: DiffusionWorker, pupil: Pupil) -> LatentImages:
    """A class's examples, in the order of their names."""
    import torch

    from fewshot.diffusion.draws import LatentImages

    latents = get_latents(worker.store, pupil.latents)
    rows = sorted(latents.without(pupil.withheld), key=lambda row: latents.images[row])
    mean, std = torch.from_numpy(latents.posterior[rows]).unbind(dim=1)
    (ids,) = worker.backbone.token_ids([pupil.prompt])
    return LatentImages(pupil.label, mean, std, ids)
