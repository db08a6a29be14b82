"""Training: from the features of the examples to a stored classifier."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from cluster import Store
from fewshot.backbones import ClipSpec
from fewshot.backbones.diffusion.diffusion_spec import DiffusionSpec
from fewshot.errors import DataError
from ray_jobs.inputs.example_blocks import EmbeddedExamples, Examples
from ray_jobs.inputs.examples import LabelledUnits
from ray_jobs.inputs.unreadable_examples import find_unreadable, stop_at_unreadable
from ray_jobs.job_file.sections import ClassifierSection
from ray_jobs.output.classifiers import ClassifierRef, TrainingIdentity, find_classifier, put_classifier
from ray_jobs.output.feature_parts import FeatureRows
from ray_jobs.output.training_cache import StoredTrainingCache, trainings_folder
from ray_jobs.steps.archive_sample import ArchiveSample
from ray_jobs.steps.example_latents import encode_examples, get_example_latents

if TYPE_CHECKING:
    from fewshot.backbones import Backbone
    from fewshot.backbones.diffusion import DiffusionBackbone
    from fewshot.backbones.pooling import Pooling
    from fewshot.backbones.text_tower import TextTower
    from fewshot.problem import Labelled

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Training:
    """A training of a classifier.

    Attributes:
        spec: the backbone.
        templates: prompts; None takes the backbone's own.
        section: method and hyperparameters, and the error rate that is tolerated, which nothing is trained for.
        seed: of everything random.
        support: the examples.
        diffusion: the diffusion model of methods that learn with one; None for all others.
        skip_unreadable: train without examples that cannot be read, instead of stopping at them.
        sample: the sample of the archive, for methods that learn from it; None for all others.
        validation: images to choose hyperparameters and temperature on; None chooses inside the examples. Those that
            cannot be read are left out.
    """

    spec: ClipSpec
    templates: tuple[str, ...] | None
    section: ClassifierSection
    seed: int
    support: Examples
    diffusion: DiffusionSpec | None = None
    skip_unreadable: bool = False
    sample: ArchiveSample | None = None
    validation: Examples | None = None

    @property
    def identity(self) -> TrainingIdentity:
        """Everything that determines the classifier."""
        return TrainingIdentity(
            clip=self.spec.identity(),
            templates=self.templates,
            method=self.section.method,
            hyperparameters=self.section.hyperparameters,
            seed=self.seed,
            support=self.support.identity,
            diffusion=None if self.diffusion is None else self.diffusion.identity(),
            archive_sample=None if self.sample is None else self.sample.name,
            validation=None if self.validation is None else self.validation.identity,
        )

    def find(self, store: Store) -> ClassifierRef | None:
        """Return the classifier if it was trained before.

        Raises:
            DamagedError: its card is damaged, and was removed.
        """
        found = find_classifier(store, self.identity.folder)
        return None if found is None else self._with_max_error(found)

    def run(self, store: Store) -> ClassifierRef:
        """Train and store the classifier, unless it is there.

        Raises:
            JobError: examples could not be read.
            DamagedError: what is stored is damaged, and was removed.
        """
        return self.find(store) or self.fit(store)

    def fit(self, store: Store) -> ClassifierRef:
        """Train and store the classifier. Raises as `run`."""
        return self._with_max_error(self._fit(store))

    def _with_max_error(self, classifier: ClassifierRef) -> ClassifierRef:
        return classifier.with_max_error(self.section.max_error, self.section.confidence)

    def _fit(self, store: Store) -> ClassifierRef:
        from fewshot.backbones import load_backbone
        from fewshot.calibration.calibrate import fit_calibrated
        from fewshot.methods import build_method, needs_of
        from fewshot.problem import Labelled, Problem

        clip = load_backbone(self.spec)
        method = build_method(self.section.method, **self.section.hyperparameters)
        needs = needs_of(self.section.method, self.section.hyperparameters)
        text = clip.prototypes(self.support.labels.space, self.templates)
        embedded = self.support.find(store)
        images, shots = read_labelled(store, embedded, dense="dense" in needs, skip_unreadable=self.skip_unreadable)
        if self.diffusion is not None:
            encode_examples(store, self.diffusion, self.support)
            shots = replace(shots, latents=get_example_latents(store, self.diffusion, self.support, images))
        if not len(shots):
            shots = Labelled(text.new_zeros(0, 1, text.shape[1]), shots.labels)
        val = None
        if self.validation is not None:
            _, val = read_labelled(store, self.validation.find(store), dense="dense" in needs)
        parts = parts_for(clip, needs, self.diffusion)._asdict()
        archive = None if self.sample is None else self.sample.load(store)
        calibrated = fit_calibrated(
            method,
            Problem(self.support.labels.space, text, shots, val, clip.logit_scale, **parts, archive=archive),
            seed=self.seed,
            training_cache=StoredTrainingCache(store, trainings_folder(self.spec, self.templates, self.diffusion)),
        )
        unreadable = find_unreadable(self.support.labels, images)
        return put_classifier(
            store,
            calibrated,
            self.identity,
            examples=len(self.support.images),
            unreadable=unreadable,
            backbone=clip.record,
            archive_images=None if archive is None else len(archive),
        )


class BackboneParts(NamedTuple):
    """Parts of backbones in a `Problem`; None for those that no method needs."""

    text_tower: TextTower | None = None
    pooling: Pooling | None = None
    diffusion: DiffusionBackbone | None = None


def parts_for(clip: Backbone, needs: Collection[str], diffusion: DiffusionSpec | None = None) -> BackboneParts:
    """Return the parts of backbones that a `Problem` must have for these needs.

    Raises:
        BackboneError: the backbone has no such part.
    """
    loaded = None
    if "diffusion" in needs and diffusion is not None:
        from fewshot.backbones.diffusion import load_diffusion

        loaded = load_diffusion(diffusion)
    return BackboneParts(
        text_tower=clip.text_tower if "text_tower" in needs else None,
        pooling=clip.pooling if "dense" in needs else None,
        diffusion=loaded,
    )


def read_labelled(
    store: Store, support: LabelledUnits | EmbeddedExamples, *, dense: bool = False, skip_unreadable: bool | None = None
) -> tuple[list[str], Labelled]:
    """Read embedded images with their labels; an image that could not be read is left out, and logged.

    Args:
        store: where the features are.
        support: the images.
        dense: read the dense tokens, too.
        skip_unreadable: see `stop_at_unreadable`; None leaves out any image, as of a set to measure on.

    Returns:
        the references of the images that were read, and their features.

    Raises:
        DataError: there are images, and none could be read.
        JobError: images could not be read, and are not to be skipped.
    """
    import torch

    from fewshot.problem import Labelled

    rows = support.read(store, dense=dense)
    label_of = dict(zip(support.labels.images, support.labels.labels, strict=True))
    reasons = reasons_of(rows)
    if skip_unreadable is not None:
        stop_at_unreadable(support.labels, reasons, skip=skip_unreadable)
    for image, reason in reasons.items():
        logger.warning("example left out image=%s: %s", image, reason)
    if rows.images and len(reasons) == len(rows):
        image, reason = next(iter(reasons.items()))
        raise DataError(f"none of the {len(rows)} examples could be read, e.g. {image}: {reason}")
    kept = [i for i, error in enumerate(rows.errors) if error is None]
    images = [rows.images[i] for i in kept]
    labels = torch.tensor([label_of[image] for image in images], dtype=torch.int64)
    tokens = None if rows.dense is None else torch.from_numpy(rows.dense)
    return images, Labelled(torch.from_numpy(rows.views[kept]), labels, tokens)


def reasons_of(rows: FeatureRows) -> dict[str, str]:
    """Return the images without features, with the reason of each."""
    return {image: error for image, error in zip(rows.images, rows.errors, strict=True) if error is not None}
