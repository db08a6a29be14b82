"""The step of all work on the diffusion model: a worker loads it once and then does whatever a unit asks of it.

Encoding, training and asking are units of one step, so that workers live on from stage to stage.
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

CLASSES_KEPT = 256
"""With Stable Diffusion 2, adapters of rank 16 take 24 to 32 MB a class."""


@dataclass(frozen=True, slots=True)
class ClassPrompt:
    """What stands for a class when the UNet is asked: a prompt, and adapters to look through.

    Attributes:
        prompt: of the class.
        adapter: folder of its adapters in the store; None for the model as it is.
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
        known: the classes that it was last asked about, with their adapters and contexts [1, L, width].
    """

    store: Store
    backbone: DiffusionBackbone
    known: dict[ClassPrompt, tuple[StackedLora | None, Tensor]] = field(default_factory=dict)

    def ready(self, told: ClassPrompt) -> tuple[StackedLora | None, Tensor]:
        """A class's adapters and context, kept until `CLASSES_KEPT` others have been asked about."""
        from fewshot.diffusion.noise_errors import class_contexts

        found = self.known.pop(told, None)
        if found is None:
            adapter = None if told.adapter is None else get_adapter(self.store, told.adapter, self.backbone.device)
            found = adapter, class_contexts(self.backbone, [told.prompt], adapter, scale=told.text_scale)
        self.known[told] = found
        if len(self.known) > CLASSES_KEPT:
            del self.known[next(iter(self.known))]
        return found


class DiffusionUnit(Protocol):
    """What a unit's payload is: small, picklable, and able to do its work on a worker."""

    def run(self, worker: DiffusionWorker) -> Part:
        """Do it."""
        ...


@dataclass(frozen=True, slots=True)
class DiffusionStep:
    """Runs units on a diffusion model.

    Attributes:
        store: where latents and adapters are.
        spec: which model, and how it runs.
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
