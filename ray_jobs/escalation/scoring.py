"""Scoring images with the diffusion model, in rounds, until every image has a winner."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ray_jobs.escalation.adapter_training import AdapterTraining
from ray_jobs.escalation.decided_images import DecidedImages
from ray_jobs.escalation.rounds import score_candidates
from ray_jobs.escalation.score_unit import get_errors
from ray_jobs.escalation.scoring_plan import ScoringPlan
from ray_jobs.escalation.selection import EscalationCandidate
from ray_jobs.escalation.stages import Stages
from ray_jobs.steps.diffusion_worker import LATENT_BYTES, DiffusionStep

if TYPE_CHECKING:
    from fewshot.diffusion.time_grid import TimeGrid


@dataclass(frozen=True, slots=True)
class EncodedImages:
    """A part of latents.

    Attributes:
        path: of the part.
        rows: numbers of its images in their shard, in the order of the part.
    """

    path: str
    rows: Sequence[int]


@dataclass(frozen=True)
class ImageScoring:
    """Scores images with a model whose adapters are trained.

    Attributes:
        step: of the diffusion model.
        adapter_training: of the classes.
        stage_name: beginning of the names of the stages.
    """

    step: DiffusionStep
    adapter_training: AdapterTraining
    stage_name: str = "scoring"

    @cached_property
    def grid(self) -> TimeGrid:
        """The time-steps and their weights."""
        return self.adapter_training.time_grid()

    def score(
        self, images: Sequence[EscalationCandidate], encoded: Mapping[int, EncodedImages], folder: str, stages: Stages
    ) -> DecidedImages:
        """Score N images in rounds until every one has a winner.

        Args:
            images: N images.
            encoded: by `EscalationCandidate.part`: their latents.
            folder: of the parts of noise errors.
            stages: run the units.

        Raises:
            IncompleteError: a unit failed.
        """
        import torch

        section, plan = self.adapter_training.section, self._plan(images, encoded)

        def score_queries(number: int, image: np.ndarray, column: np.ndarray, entry: np.ndarray) -> np.ndarray:
            of_round, backwards = f"{folder}/round-{number:02d}", number % 2 == 1
            units = list(plan.query_units(of_round, image, column, entry, backwards=backwards))
            stages.run(f"{self.stage_name}, round {number + 1}", self.step, [unit for unit, _ in units], unit="queries")
            errors = np.zeros(len(image), np.float32)
            for unit, rows in units:
                errors[rows] = get_errors(self.adapter_training.store, unit.path)
            return errors

        present, weights = torch.from_numpy(plan.candidates >= 0), self.grid.weights
        scored = score_candidates(section.schedule, present, weights, score_queries, error_rate=section.error_rate)
        return DecidedImages(images, scored, self.grid.steps)

    def _images_in_memory(self) -> int:
        """Return the images whose latents take half of a worker's memory for latents: the next unit reads others."""
        from fewshot.backbones.diffusion import latent_shape

        image_bytes = 4 * math.prod(latent_shape(self.adapter_training.section.spec))
        return max(1, LATENT_BYTES // (2 * image_bytes))

    def _plan(self, images: Sequence[EscalationCandidate], encoded: Mapping[int, EncodedImages]) -> ScoringPlan:
        labels = sorted({label for image in images for label in image.candidates})
        index = {label: i for i, label in enumerate(labels)}
        candidates = np.full((len(images), max((len(image.candidates) for image in images), default=1)), -1)
        for row, image in zip(candidates, images, strict=True):
            row[: len(image.candidates)] = [index[label] for label in image.candidates]
        parts = {part: number for number, part in enumerate(encoded)}
        rows = {part: {row: i for i, row in enumerate(each.rows)} for part, each in encoded.items()}
        return ScoringPlan(
            parts=tuple(each.path for each in encoded.values()),
            part=np.array([parts[image.part] for image in images], dtype=np.int64),
            row=np.array([rows[image.part][image.row] for image in images], dtype=np.int64),
            candidates=candidates,
            class_prompts=tuple(self.adapter_training.class_prompt(label) for label in labels),
            steps=self.grid.steps.numpy(),
            seed=self.adapter_training.section.seed,
            unet_scale=self.adapter_training.unet_scale(labels),
            norm=self.adapter_training.method.scoring.norm,
            batch_size=self.adapter_training.section.spec.max_batch_size,
            images_in_memory=self._images_in_memory(),
        )
