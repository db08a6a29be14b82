"""Latents of the examples, for methods that train with a diffusion model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cluster import Ledger, LocalExecutor, Store, Unit, Workers, run_stage
from fewshot.backbones.diffusion.diffusion_spec import DiffusionSpec
from ray_jobs.errors import JobError
from ray_jobs.inputs.example_blocks import Examples
from ray_jobs.steps.diffusion_worker import DiffusionStep
from ray_jobs.steps.latents import Latents, get_latents, latent_unit

if TYPE_CHECKING:
    from torch import Tensor

SUPPORT = "support"
"""Folder of the examples' latents."""


@dataclass(frozen=True)
class ExampleLatents:
    """The latents of the examples, class by class.

    Attributes:
        store: the output.
        spec: the model.
        support: the examples; a group holds those of one class.
    """

    store: Store
    spec: DiffusionSpec
    support: Examples

    @cached_property
    def units(self) -> dict[str, Unit]:
        """By label: the unit that encodes the examples of a class."""
        label_of = dict(zip(self.support.labels.images, self.support.labels.labels, strict=True))
        space, units = self.support.labels.space, example_units(self.spec, self.support)
        return {space.names[label_of[names[0]]]: unit for names, unit in zip(self.support.groups, units, strict=True)}

    @cached_property
    def images(self) -> dict[str, tuple[str, ...]]:
        """By label: the names of the examples of a class, in the order of its part."""
        return dict(zip(self.units, self.support.groups, strict=True))

    @cached_property
    def latents(self) -> dict[str, Latents]:
        """By label: the latents of a class with at least one readable example. All units must be done."""
        latents = {label: get_latents(self.store, unit.path) for label, unit in self.units.items()}
        return {label: found for label, found in latents.items() if found.read.any()}


def encode_examples(store: Store, spec: DiffusionSpec, support: Examples) -> None:
    """Encode the examples that are not encoded yet, in this process: they are few.

    Raises:
        JobError: some could not be encoded.
    """
    step, workers = DiffusionStep(store, spec), Workers(count=1, overlap=1)
    with LocalExecutor() as executor:
        report = run_stage(executor, step, example_units(spec, support), Ledger(store), workers)
    if report.failures:
        raise JobError([f"the examples could not be encoded: {f.path}: {f.error}" for f in report.failures])


def get_example_latents(store: Store, spec: DiffusionSpec, support: Examples, images: Sequence[str]) -> Tensor:
    """Read the latents of examples that were encoded.

    Args:
        store: where they are.
        spec: the model.
        support: the examples.
        images: M references of readable examples.

    Returns:
        [M, 2, C, h, w] float32, mean and standard deviation of the VAE's posterior.

    Raises:
        JobError: the model has no latents of one of them.
    """
    import numpy as np
    import torch

    found: dict[str, np.ndarray] = {}
    reasons: dict[str, str | None] = {}
    for unit in example_units(spec, support):
        latents = get_latents(store, unit.path)
        found.update(zip(latents.images, latents.posterior, strict=True))
        reasons.update(zip(latents.images, latents.errors, strict=True))
    if missing := [f"the example {image} has no latents: {reasons[image]}" for image in images if reasons[image]]:
        raise JobError(missing)
    return torch.from_numpy(np.stack([found[image] for image in images]))


def example_units(spec: DiffusionSpec, support: Examples) -> list[Unit]:
    """Return the units that encode the examples: one for each group."""
    groups = zip(support.shards, support.groups, strict=True)
    return [latent_unit(spec, SUPPORT, shard, range(len(group))) for shard, group in groups]
