"""The step of all work with the diffusion model: a worker loads the model once and then runs units of any kind.

Encoding, training and scoring are units of one step, so that workers live on from stage to stage. Two units live in a
worker at a time: while one of them has the device, the other reads its images, latents or adapters.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cluster import Part, Store
from fewshot.backbones.diffusion.diffusion_spec import DiffusionSpec
from ray_jobs.steps.adapter_files import get_adapter
from ray_jobs.steps.gpu_share import device_memory, gpu_errors, keep_to_share
from ray_jobs.steps.recently_used import RecentlyUsed

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.backbones.diffusion import DiffusionBackbone
    from fewshot.diffusion.lora import Pairs
    from fewshot.diffusion.training_memory import TrainingMemory, TrainingShape

UNITS_AT_A_TIME = 2
"""In a worker: one of them has the device."""
READERS = 8
"""Objects of a unit that are read side by side."""
ADAPTER_SHARE = 0.25
"""Of a GPU's memory, for adapters. Those of a class take 10 MB with Stable Diffusion 2 and rank 16."""
ADAPTER_BYTES = 3 << 30
"""For adapters on a CPU."""
LATENT_BYTES = 1 << 30
"""Memory for latents: 16,000 images of 512 pixels."""


@dataclass(frozen=True, slots=True)
class ClassPrompt:
    """A class as the UNet is conditioned on it: a prompt and adapters.

    Attributes:
        prompt: of the class.
        adapter: folder of its adapters in the store; None for the model without adapters.
    """

    prompt: str
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class LoadedClass:
    """A class in a worker's memory.

    Attributes:
        adapters: of the UNet, on its device, in half precision as they are stored; None for none.
        context: [1, L, width] on the CPU.
    """

    adapters: Pairs | None
    context: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        halves = [half for pair in (self.adapters or {}).values() for half in pair]
        return sum(tensor.nbytes for tensor in (self.context, *halves))


@dataclass(frozen=True, slots=True)
class LatentMeans:
    """The latents of one part, as images are scored by them.

    Attributes:
        images: n keys.
        mean: [n, C, h, w] float32, of the posterior.
    """

    images: tuple[str, ...]
    mean: np.ndarray


def _new_latents() -> RecentlyUsed[str, LatentMeans]:
    return RecentlyUsed(LATENT_BYTES, lambda part: part.mean.nbytes)


def _new_classes() -> RecentlyUsed[ClassPrompt, LoadedClass]:
    return RecentlyUsed(ADAPTER_BYTES, lambda loaded: loaded.nbytes)


@dataclass
class DiffusionWorker:
    """A worker's state.

    Attributes:
        store: where latents and adapters are.
        backbone: the model, resident.
        memory_bytes: of the device; None for a CPU.
        device: held by the unit that runs the model; its modules are not for two threads at a time.
        classes: the classes used last.
        latents: the latents used last, by part.
        readers: threads that read objects.
        training_memory: of trainings, counted once each.
    """

    store: Store
    backbone: DiffusionBackbone
    memory_bytes: int | None = None
    device: threading.Lock = field(default_factory=threading.Lock)
    classes: RecentlyUsed[ClassPrompt, LoadedClass] = field(default_factory=_new_classes)
    latents: RecentlyUsed[str, LatentMeans] = field(default_factory=_new_latents)
    readers: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, READERS, "read"))
    training_memory: dict[TrainingShape, TrainingMemory] = field(default_factory=dict)

    def count_memory(self, shape: TrainingShape) -> TrainingMemory:
        """Return the memory that training adapters takes, which is counted once for each shape."""
        from fewshot.diffusion.training_memory import count_training_memory

        if shape not in self.training_memory:
            self.training_memory[shape] = count_training_memory(self.backbone, shape)
        return self.training_memory[shape]

    def load_classes(self, class_prompts: Sequence[ClassPrompt]) -> list[LoadedClass]:
        """Return classes, those used last from memory. Must be called without `device`."""
        return self.classes.get(class_prompts, self._load)

    def _load(self, missing: list[ClassPrompt]) -> list[LoadedClass]:
        """Read classes with adapters, and encode the prompts of the others, which takes less time than reading them."""
        from fewshot.diffusion.noise_errors import class_contexts

        adapted = [each for each in missing if each.adapter is not None]
        loaded = dict(zip(adapted, self.readers.map(self._read, adapted), strict=True))
        if plain := [each for each in missing if each.adapter is None]:
            with self.device:
                contexts = class_contexts(self.backbone, [each.prompt for each in plain])
            for each, context in zip(plain, contexts, strict=True):
                loaded[each] = LoadedClass(None, context[None])
        return [loaded[each] for each in missing]

    def _read(self, class_prompt: ClassPrompt) -> LoadedClass:
        assert class_prompt.adapter is not None
        return LoadedClass(*get_adapter(self.store, class_prompt.adapter, self.backbone.device))


class DiffusionUnit(Protocol):
    """The payload of a unit: small, picklable, run on a worker."""

    def run(self, worker: DiffusionWorker) -> Part:
        """Run the unit: with `worker.device` wherever it runs the model, without it where it reads or writes."""
        ...


@dataclass(frozen=True, slots=True)
class DiffusionStep:
    """Runs units with a diffusion model.

    Attributes:
        store: where latents and adapters are.
        spec: the model and the settings that fix its numbers.
    """

    store: Store
    spec: DiffusionSpec

    def setup(self) -> DiffusionWorker:
        """Load the model."""
        from fewshot.backbones.diffusion import load_diffusion

        keep_to_share()
        backbone = load_diffusion(self.spec)
        memory = device_memory(backbone.device)
        limit = ADAPTER_BYTES if memory is None else int(ADAPTER_SHARE * memory)
        classes: RecentlyUsed[ClassPrompt, LoadedClass] = RecentlyUsed(limit, lambda loaded: loaded.nbytes)
        return DiffusionWorker(self.store, backbone, memory, classes=classes)

    def run(self, state: DiffusionWorker, unit: DiffusionUnit) -> Part:
        """See `DiffusionUnit.run`."""
        with gpu_errors():
            return unit.run(state)
