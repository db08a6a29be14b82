"""A unit of adapter training: a block of classes that share a batch in, one folder of adapters a class out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster import Part
from ray_jobs.escalation.prior_images import get_prior
from ray_jobs.output.layout import to_json
from ray_jobs.steps.adapter_files import is_trained, put_adapter
from ray_jobs.steps.diffusion_worker import DiffusionWorker
from ray_jobs.steps.latents import LatentUnit, get_latents, read_pixels

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.diffusion.adapter_training import AdapterSettings
    from fewshot.diffusion.random_draws import LatentImages

ADAPTERS_VERSION = 3
"""Part of every class's fingerprint: raised when training or the files change."""


@dataclass(frozen=True, slots=True)
class ClassAdapter:
    """The adapters of a class, with their training data.

    Attributes:
        label: of the class.
        prompt: of the class.
        latents: part of the latents of its examples.
        folder: of its adapters.
        held_out: rows of the part that are not trained on, unless no other one is readable.
        images: the examples themselves, for training with jitter; None for training without.
    """

    label: str
    prompt: str
    latents: str
    folder: str
    held_out: tuple[int, ...] = ()
    images: LatentUnit | None = None


@dataclass(frozen=True, slots=True)
class AdapterUnit:
    """Classes that are trained in one batch. The adapters of one do not depend on which the others are.

    Attributes:
        class_adapters: at most `block_size` classes.
        settings: of the training.
        block_size: classes of a batch; missing ones are filled up.
        seed: of the training.
        prior: parts of prior images; empty for none.
        prior_prompt: of these images.
    """

    class_adapters: tuple[ClassAdapter, ...]
    settings: AdapterSettings
    block_size: int
    seed: int
    prior: tuple[str, ...] = ()
    prior_prompt: str = ""

    def run(self, worker: DiffusionWorker) -> Part:
        """Train the classes without adapters and store each; the part only records that the block is done."""
        missing = [each for each in self.class_adapters if not is_trained(worker.store, each.folder)]
        if missing:
            self._train(worker, missing)
        folders = [class_adapter.folder for class_adapter in self.class_adapters]
        return Part(to_json({"adapters": folders}), {"classes": len(folders)})

    def _train(self, worker: DiffusionWorker, class_adapters: list[ClassAdapter]) -> None:
        from fewshot.diffusion.adapter_training import train_adapters
        from fewshot.diffusion.lora import save_adapter

        last: dict[str, list[float]] = {}
        examples = [_examples(worker, class_adapter) for class_adapter in class_adapters]
        prior = get_prior(worker, self.prior, self.prior_prompt, with_pixels=self.settings.jitter)
        with worker.device:
            worker.classes.clear()  # Training needs the memory, and scores no class.
            stack = train_adapters(
                worker.backbone,
                examples,
                self.settings,
                block_size=self.block_size,
                seed=self.seed,
                prior=prior,
                checkpointing=self._needs_checkpointing(worker, prior is not None),
                on_step=lambda _, losses: last.update(losses=losses.tolist()),
            )
            files = [save_adapter(stack, index) for index in range(len(class_adapters))]
            contexts = self._contexts(worker, class_adapters, files)
        for index, class_adapter in enumerate(class_adapters):
            card = self._card(class_adapter, last["losses"][index])
            put_adapter(worker.store, class_adapter.folder, files[index], contexts[index : index + 1], card)

    def _contexts(
        self, worker: DiffusionWorker, class_adapters: list[ClassAdapter], files: list[dict[str, bytes]]
    ) -> Tensor:
        """Encode the prompts with the adapters as they are stored, [K, L, width] in the model's precision."""
        from fewshot.diffusion.lora import load_adapters
        from fewshot.diffusion.noise_errors import class_contexts

        backbone, prompts = worker.backbone, [each.prompt for each in class_adapters]
        stored = load_adapters(files).mapped(lambda tensor: tensor.to(backbone.device))
        return class_contexts(backbone, prompts, stored, scale=self.settings.text_scale).to(backbone.dtype)

    def _needs_checkpointing(self, worker: DiffusionWorker, with_prior: bool) -> bool:
        """Return whether the worker's device has too little memory to keep all activations of a step.

        Raises:
            DataError: it has too little even without.
        """
        from fewshot.diffusion.training_memory import TrainingShape, choose_checkpointing

        if worker.memory_bytes is None:
            return False
        shape = TrainingShape.from_settings(self.settings, block_size=self.block_size, with_prior=with_prior)
        return choose_checkpointing(worker.count_memory(shape), shape, worker.memory_bytes)

    def _card(self, class_adapter: ClassAdapter, last_loss: float) -> dict[str, object]:
        held_out = {"held_out": len(class_adapter.held_out)} if class_adapter.held_out else {}
        return {
            "class": class_adapter.label,
            "prompt": class_adapter.prompt,
            "settings": self.settings.identity(),
            "seed": self.seed,
            "last_loss": last_loss,
            **held_out,
        }


def _examples(worker: DiffusionWorker, class_adapter: ClassAdapter) -> LatentImages:
    """Return the training examples of a class, in the order of their names."""
    import torch

    from fewshot.diffusion.random_draws import LatentImages

    latents = get_latents(worker.store, class_adapter.latents)
    rows = sorted(latents.training_rows(class_adapter.held_out), key=lambda row: latents.images[row])
    mean, std = torch.from_numpy(latents.posterior[rows]).unbind(dim=1)
    (ids,) = worker.backbone.token_ids([class_adapter.prompt])
    images = class_adapter.images
    pixels = None if images is None else read_pixels(worker.backbone, images, rows)
    return LatentImages(class_adapter.label, mean, std, ids, pixels)
