"""The training of adapters before images are scored: one set of adapters a class, their examples and their folders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cluster import Ledger, Store, Unit, fingerprint
from ray_jobs.escalation.adapter_unit import ADAPTERS_VERSION, AdapterUnit, ClassAdapter
from ray_jobs.escalation.prior_images import prior_units
from ray_jobs.escalation.stages import Stages
from ray_jobs.job_file.sections import EscalateSection
from ray_jobs.steps.adapter_files import adapter_folder, trained_folders
from ray_jobs.steps.diffusion_worker import ClassPrompt, DiffusionStep
from ray_jobs.steps.example_latents import ExampleLatents

if TYPE_CHECKING:
    from fewshot.diffusion.adapter_training import AdapterSettings
    from fewshot.diffusion.image_sampling import PriorImages
    from fewshot.diffusion.time_grid import TimeGrid
    from fewshot.method import DiffusionScorer


@dataclass(frozen=True)
class AdapterTraining:
    """The classes and their adapters.

    Attributes:
        section: of the job file.
        store: the output.
        examples: of the classes.
        for_calibration: whether some examples are held out, see `held_out`.
    """

    section: EscalateSection
    store: Store
    examples: ExampleLatents
    for_calibration: bool = False

    @cached_property
    def method(self) -> DiffusionScorer:
        """The method of the section."""
        from fewshot.methods import build_diffusion_scorer

        return build_diffusion_scorer(self.section.method, **self.section.hyperparameters)

    @property
    def trains_adapters(self) -> bool:
        """Whether the method trains adapters at all."""
        return self.method.adapter_settings(latent_side=1, shots=1) is not None

    @cached_property
    def held_out(self) -> dict[str, tuple[int, ...]]:
        """By label: the examples of a class held out for calibration, a quarter of them, and one of two or three.

        They are drawn by their names. A class with a single example is trained on it.
        """
        if not self.for_calibration or not self.trains_adapters:
            return {}
        return {label: self._draw_held_out(images) for label, images in self.examples.images.items()}

    def training_rows(self, label: str) -> list[int]:
        """Return the examples that a class is trained on: those that were read and are not held out."""
        return self.examples.latents[label].training_rows(self.held_out.get(label, ()))

    def _draw_held_out(self, images: Sequence[str]) -> tuple[int, ...]:
        order = sorted(range(len(images)), key=lambda row: fingerprint([self.section.seed, images[row]]))
        return tuple(sorted(order[: max(len(images) // 4, len(images) > 1)]))

    def time_grid(self) -> TimeGrid:
        """Return the time-steps of the scores, as the method spaces them.

        Raises:
            DataError: they are too few for the weights of the method.
        """
        import torch

        from fewshot.diffusion.time_grid import time_grid

        latents = list(self.examples.latents.values())
        mean = torch.from_numpy(np.concatenate([part.posterior[part.read, 0] for part in latents]))
        labels = torch.arange(len(latents)).repeat_interleave(torch.tensor([int(part.read.sum()) for part in latents]))
        weights = self.method.weights(mean, labels, num_steps=latents[0].num_steps)
        return time_grid(weights, self.section.steps, self.method.scoring.spacing)

    def can_score(self, label: str) -> bool:
        """Return whether the method can score a class: adapters need a readable example."""
        return not self.trains_adapters or label in self.examples.latents

    def adapter_settings(self, label: str) -> AdapterSettings | None:
        """Return how the adapters of a class are trained; None for a method without adapters."""
        side = self.examples.latents[label].posterior.shape[-1]
        return self.method.adapter_settings(latent_side=side, shots=len(self.training_rows(label)))

    @cached_property
    def prior(self) -> PriorImages | None:
        """The images that all adapters should leave unchanged; None for none."""
        from fewshot.backbones.diffusion import latent_shape

        return self.method.prior(latent_side=latent_shape(self.section.spec)[1])

    @cached_property
    def prior_units(self) -> list[Unit]:
        """The units that sample the prior images."""
        return prior_units(self.section.spec, self.prior, seed=self.section.seed)

    def prior_cost(self) -> float:
        """Return the forwards that the prior images still take."""
        if self.prior is None:
            return 0.0
        return float(self.prior.forwards * sum(u.weight for u in self.prior_units if not self.store.exists(u.path)))

    def class_adapter(self, label: str, settings: AdapterSettings) -> ClassAdapter:
        """Return the adapters of a class as they are with some settings."""
        unit, prompt, held_out = self.examples.units[label], self._prompts[label], self.held_out.get(label, ())
        training = [ADAPTERS_VERSION, settings.identity(), self.section.classes_per_block, self.section.seed]
        identity: list[object] = [*training, label, prompt, unit.path, *self._prior]
        if held_out:
            identity.append(held_out)
        folder = adapter_folder(self.section.method, fingerprint(identity))
        return ClassAdapter(label, prompt, unit.path, folder, held_out, unit.payload if settings.jitter else None)

    @cached_property
    def trained_labels(self) -> frozenset[str]:
        """Labels of the classes that need no training, or had it before."""
        folders = trained_folders(self.store, self.section.method)
        settings = {label: self.adapter_settings(label) for label in self.examples.latents}
        return frozenset(
            label for label, s in settings.items() if s is None or self.class_adapter(label, s).folder in folders
        )

    def training_units(self, labels: Sequence[str]) -> list[Unit]:
        """Return the units that train the classes without adapters, in blocks of equal settings."""
        by_settings: dict[AdapterSettings, list[ClassAdapter]] = defaultdict(list)
        for label in labels:
            if (settings := self.trains_adapters and self.adapter_settings(label)) and label not in self.trained_labels:
                by_settings[settings].append(self.class_adapter(label, settings))
        size = self.section.classes_per_block
        return [
            self._unit(settings, class_adapters[start : start + size])
            for settings, class_adapters in by_settings.items()
            for start in range(0, len(class_adapters), size)
        ]

    def train(self, labels: Sequence[str], step: DiffusionStep, stages: Stages, *, stage_name: str) -> None:
        """Train the adapters of those of the classes that have none.

        Args:
            labels: the classes.
            step: of the diffusion model.
            stages: run the units.
            stage_name: shown while they run.

        Raises:
            IncompleteError: a unit failed.
        """
        if units := self.training_units(labels):
            self._delete_stale_parts(units)
            stages.run("sampling prior images", step, self.prior_units)
            stages.run(stage_name, step, units, unit="classes")

    def _delete_stale_parts(self, units: Sequence[Unit]) -> None:
        """Delete the parts of these units: they mark units as done whose adapters are missing."""
        for path in Ledger(self.store).done(f"adapters/{self.section.method}/blocks") & {unit.path for unit in units}:
            self.store.delete(path)

    def class_prompt(self, label: str) -> ClassPrompt:
        """Return a class as the UNet is conditioned on it."""
        settings = self.adapter_settings(label) if self.trains_adapters else None
        if settings is None:
            return ClassPrompt(self._prompts[label])
        return ClassPrompt(self._prompts[label], self.class_adapter(label, settings).folder)

    def unet_scale(self, labels: Sequence[str]) -> float:
        """Return the scale of the UNet's adapters, the same for all these classes."""
        scales = {s.unet_scale for label in labels if (s := self.trains_adapters and self.adapter_settings(label))}
        return scales.pop() if scales else 1.0

    def _unit(self, settings: AdapterSettings, class_adapters: Sequence[ClassAdapter]) -> Unit:
        name = fingerprint([class_adapter.folder for class_adapter in class_adapters])
        prior_prompt = "" if self.prior is None else self.prior.prompt
        size, seed = self.section.classes_per_block, self.section.seed
        unit = AdapterUnit(tuple(class_adapters), settings, size, seed, self._prior, prior_prompt)
        return Unit(f"adapters/{self.section.method}/blocks/{name}.json", unit, weight=len(class_adapters))

    @property
    def _prior(self) -> tuple[str, ...]:
        return tuple(unit.path for unit in self.prior_units)

    @cached_property
    def _prompts(self) -> dict[str, str]:
        space = self.examples.support.labels.space
        return dict(zip(space.names, self.method.prompts(space), strict=True))
