"""What the model learns before it is asked: an adapter a class, from which examples, and where it is kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cluster import Ledger, Store, Unit, fingerprint
from ray_jobs.escalation.adapter_unit import ADAPTERS_VERSION, AdapterUnit, ClassAdapter
from ray_jobs.escalation.prior_images import prior_units
from ray_jobs.escalation.stages import Stages
from ray_jobs.job_file.sections import EscalateSection
from ray_jobs.steps.adapter_files import adapter_folder, trained
from ray_jobs.steps.diffusion_worker import ClassPrompt, DiffusionStep
from ray_jobs.steps.example_latents import Examples

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.diffusion.adapter_training import AdapterSettings
    from fewshot.diffusion.image_sampling import PriorImages
    from fewshot.method import DiffusionScorer

BLOCK = 8
"""Classes that are trained in one batch."""


@dataclass(frozen=True)
class AdapterTraining:
    """The classes and their adapters.

    Attributes:
        section: of the job file.
        store: the output.
        examples: of the classes.
        for_calibration: whether some examples are kept to ask about, see `withheld`.
    """

    section: EscalateSection
    store: Store
    examples: Examples
    for_calibration: bool = False

    @cached_property
    def method(self) -> DiffusionScorer:
        """Who is asked."""
        from fewshot.methods import build_diffusion_scorer

        return build_diffusion_scorer(self.section.method, **self.section.hyperparameters)

    @cached_property
    def withheld(self) -> dict[str, tuple[int, ...]]:
        """By label: which of a class's examples are kept for the exam, a quarter, and one of two or three.

        They are drawn by their names. A class with a single example is learned from it.
        """
        if not self.for_calibration or not self.learns:
            return {}
        return {label: self._drawn(images) for label, images in self.examples.images.items()}

    def rows(self, label: str) -> list[int]:
        """Which examples of a class are learned from: those that could be read and are not withheld."""
        return self.examples.latents[label].without(self.withheld.get(label, ()))

    def _drawn(self, images: Sequence[str]) -> tuple[int, ...]:
        order = sorted(range(len(images)), key=lambda row: fingerprint([self.section.seed, images[row]]))
        return tuple(sorted(order[: max(len(images) // 4, len(images) > 1)]))

    def grid(self) -> Tensor:
        """Time-steps at equal mass of the method's weights, [n] int64."""
        import torch

        from fewshot.diffusion.time_grid import support_grid

        latents = list(self.examples.latents.values())
        mean = torch.from_numpy(np.concatenate([part.posterior[part.read, 0] for part in latents]))
        labels = torch.arange(len(latents)).repeat_interleave(torch.tensor([int(part.read.sum()) for part in latents]))
        weights = self.method.weights(mean, labels, num_steps=latents[0].num_steps)
        return support_grid(weights, min(self.section.steps, int((weights > 0).sum())))

    @property
    def learns(self) -> bool:
        """Whether the method learns adapters at all."""
        return self.method.adapter_settings(latent_side=1, shots=1) is not None

    def answers_for(self, label: str) -> bool:
        """Whether the model can be asked about a class."""
        return not self.learns or label in self.examples.latents

    def settings(self, label: str) -> AdapterSettings | None:
        """How a class is learned."""
        side = self.examples.latents[label].posterior.shape[-1]
        return self.method.adapter_settings(latent_side=side, shots=len(self.rows(label)))

    @cached_property
    def prior(self) -> PriorImages | None:
        """What all adapters should leave as it is."""
        from fewshot.backbones.diffusion import latent_shape

        return self.method.prior(latent_side=latent_shape(self.section.spec)[1])

    @cached_property
    def prior_units(self) -> list[Unit]:
        """What draws the prior images."""
        return prior_units(self.section.spec, self.prior, seed=self.section.seed)

    def prior_cost(self) -> float:
        """Forwards for the prior images that are not drawn yet."""
        if self.prior is None:
            return 0.0
        return float(self.prior.forwards * sum(u.weight for u in self.prior_units if not self.store.exists(u.path)))

    def class_adapter(self, label: str, settings: AdapterSettings) -> ClassAdapter:
        """A class that is learned, and where its adapters go."""
        prompt, latents, withheld = self._prompts[label], self.examples.units[label].path, self.withheld.get(label, ())
        identity = [ADAPTERS_VERSION, asdict(settings), BLOCK, self.section.seed, label, prompt, latents, *self._prior]
        name = fingerprint([*identity, withheld] if withheld else identity)
        return ClassAdapter(label, prompt, latents, adapter_folder(self.section.method, name), withheld)

    @cached_property
    def learned(self) -> frozenset[str]:
        """Labels of the classes that were learned before."""
        there = trained(self.store, self.section.method)
        settings = {label: self.settings(label) for label in self.examples.latents}
        return frozenset(
            label for label, s in settings.items() if s is None or self.class_adapter(label, s).folder in there
        )

    def units(self, labels: Sequence[str]) -> list[Unit]:
        """What learns some classes, as far as they were not learned before: blocks of classes learned the same way."""
        alike: dict[AdapterSettings, list[ClassAdapter]] = defaultdict(list)
        for label in labels:
            if (settings := self.learns and self.settings(label)) and label not in self.learned:
                alike[settings].append(self.class_adapter(label, settings))
        return [
            self._unit(settings, class_adapters[start : start + BLOCK])
            for settings, class_adapters in alike.items()
            for start in range(0, len(class_adapters), BLOCK)
        ]

    def learn(self, labels: Sequence[str], step: DiffusionStep, stages: Stages, *, called: str) -> None:
        """Learn some classes, as far as they were not learned before.

        Args:
            labels: the classes.
            step: what all work on the model is units of.
            stages: what carries it out.
            called: what the stage tells while it runs.

        Raises:
            IncompleteError: a unit failed.
        """
        if units := self.units(labels):
            self._forget(units)
            stages.run("drawing prior images", step, self.prior_units)
            stages.run(called, step, units)

    def _forget(self, units: Sequence[Unit]) -> None:
        """Remove parts that say that units are done: if they were, their adapters would be there."""
        for path in Ledger(self.store).done(f"adapters/{self.section.method}/blocks") & {unit.path for unit in units}:
            self.store.delete(path)

    def class_prompt(self, label: str) -> ClassPrompt:
        """What stands for a class when the model is asked."""
        settings = self.settings(label) if self.learns else None
        if settings is None:
            return ClassPrompt(self._prompts[label])
        return ClassPrompt(self._prompts[label], self.class_adapter(label, settings).folder, settings.text_scale)

    def scale(self, labels: Sequence[str]) -> float:
        """Of the UNet's adapters."""
        scales = {s.unet_scale for label in labels if (s := self.learns and self.settings(label))}
        return scales.pop() if scales else 1.0

    def _unit(self, settings: AdapterSettings, class_adapters: Sequence[ClassAdapter]) -> Unit:
        name = fingerprint([class_adapter.folder for class_adapter in class_adapters])
        class_prompt = "" if self.prior is None else self.prior.prompt
        unit = AdapterUnit(tuple(class_adapters), settings, BLOCK, self.section.seed, self._prior, class_prompt)
        return Unit(f"adapters/{self.section.method}/blocks/{name}.json", unit, weight=len(class_adapters))

    @property
    def _prior(self) -> tuple[str, ...]:
        return tuple(unit.path for unit in self.prior_units)

    @cached_property
    def _prompts(self) -> dict[str, str]:
        space = self.examples.support.labels.space
        return dict(zip(space.names, self.method.prompts(space), strict=True))
