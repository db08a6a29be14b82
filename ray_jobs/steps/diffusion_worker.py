"""The step of all work with the diffusion model: a worker loads the model once and then runs units of any kind.

Encoding, training and scoring are units of one step, so that workers live on from stage to stage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cluster import Part, Store
from fewshot.backbones.diffusion.diffusion_spec import DiffusionSpec
from ray_jobs.steps.adapter_files import get_adapter
from ray_jobs.steps.gpu_share import keep_to_share

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.backbones.diffusion import DiffusionBackbone
    from fewshot.diffusion.lora import StackedLora

MAX_LOADED_CLASSES = 256
"""With Stable Diffusion 2, adapters of rank 16 take 24 to 32 MB a class."""


@dataclass(frozen=True, slots=True)
class ClassPrompt:
    """A class as the UNet is conditioned on it: a prompt and adapters.

    Attributes:
        prompt: of the class.
        adapter: folder of its adapters in the store; None for the model without adapters.
        text_scale: of the text encoder's adapters.
    """

    prompt: str
    adapter: str | None = None
    text_scale: float = 1.0


@dataclass
class DiffusionWorker:
    """A worker's state.

    Attributes:
        store: where latents and adapters are.
        backbone: the model, resident.
        loaded: the adapters and contexts [1, L, width] of the classes used last, the most recent last.
    """

    store: Store
    backbone: DiffusionBackbone
    loaded: dict[ClassPrompt, tuple[StackedLora | None, Tensor]] = field(default_factory=dict)

    def load_class(self, class_prompt: ClassPrompt) -> tuple[StackedLora | None, Tensor]:
        """Return a class's adapters and context; they stay loaded until `MAX_LOADED_CLASSES` others have been used."""
        from fewshot.diffusion.noise_errors import class_contexts

        found = self.loaded.pop(class_prompt, None)
        if found is None:
            folder, scale = class_prompt.adapter, class_prompt.text_scale
            adapter = None if folder is None else get_adapter(self.store, folder, self.backbone.device)
            found = adapter, class_contexts(self.backbone, [class_prompt.prompt], adapter, scale=scale)
        self.loaded[class_prompt] = found
        if len(self.loaded) > MAX_LOADED_CLASSES:
            del self.loaded[next(iter(self.loaded))]
        return found


class DiffusionUnit(Protocol):
    """The payload of a unit: small, picklable, run on a worker."""

    def run(self, worker: DiffusionWorker) -> Part:
        """Run the unit."""
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
        return DiffusionWorker(self.store, load_diffusion(self.spec))

    def run(self, state: DiffusionWorker, unit: DiffusionUnit) -> Part:
        """See `DiffusionUnit.run`."""
        return unit.run(state)
