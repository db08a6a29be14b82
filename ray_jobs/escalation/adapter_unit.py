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
    from fewshot.diffusion.random_draws import LatentImages

ADAPTERS_VERSION = 1
"""Part of every class's fingerprint: raised when training changes."""


@dataclass(frozen=True, slots=True)
class ClassAdapter:
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
        class_adapters: at most `block_size` classes.
        settings: how.
        block_size: classes of a batch; missing ones are filled up.
        seed: of the training.
        prior: parts of prior images, of which there may be none.
        prior_prompt: of these images.
    """

    class_adapters: tuple[ClassAdapter, ...]
    settings: AdapterSettings
    block_size: int
    seed: int
    prior: tuple[str, ...] = ()
    prior_prompt: str = ""

    def run(self, worker: DiffusionWorker) -> Part:
        """Train the classes and store each; the part only says that it is done."""
        from fewshot.diffusion.adapter_training import train_adapters
        from fewshot.diffusion.lora import save_adapter

        left = [
            class_adapter for class_adapter in self.class_adapters if not is_trained(worker.store, class_adapter.folder)
        ]
        if left:
            last: dict[str, list[float]] = {}
            stack = train_adapters(
                worker.backbone,
                [_images(worker, class_adapter) for class_adapter in left],
                self.settings,
                block_size=self.block_size,
                seed=self.seed,
                prior=get_prior(worker, self.prior, self.prior_prompt),
                on_step=lambda _, losses: last.update(losses=losses.tolist()),
            )
            for index, class_adapter in enumerate(left):
                card = {
                    "class": class_adapter.label,
                    "prompt": class_adapter.prompt,
                    "settings": asdict(self.settings),
                    "seed": self.seed,
                }
                put_adapter(
                    worker.store,
                    class_adapter.folder,
                    save_adapter(stack, index),
                    card | {"last_loss": last["losses"][index]},
                )
        return Part(
            to_json([class_adapter.folder for class_adapter in self.class_adapters]),
            {"classes": len(self.class_adapters)},
        )


def _images(worker: DiffusionWorker, class_adapter: ClassAdapter) -> LatentImages:
    """A class's examples, in the order of their names."""
    import torch

    from fewshot.diffusion.random_draws import LatentImages

    latents = get_latents(worker.store, class_adapter.latents)
    rows = sorted(latents.without(class_adapter.withheld), key=lambda row: latents.images[row])
    mean, std = torch.from_numpy(latents.posterior[rows]).unbind(dim=1)
    (ids,) = worker.backbone.token_ids([class_adapter.prompt])
    return LatentImages(class_adapter.label, mean, std, ids)
