"""Asking about images until every one of them is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ray_jobs.escalation.adapter_training import AdapterTraining
from ray_jobs.escalation.decided_images import Outcome
from ray_jobs.escalation.rounds import RoundState, decide
from ray_jobs.escalation.score_unit import get_errors
from ray_jobs.escalation.selection import EscalationCandidates
from ray_jobs.escalation.stages import Stages
from ray_jobs.steps.diffusion_worker import DiffusionStep

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Encoded:
    """A part of latents.

    Attributes:
        path: of the part.
        rows: which rows of a shard it holds, in its order.
    """

    path: str
    rows: Sequence[int]


@dataclass(frozen=True)
class ImageScoring:
    """Asks a model that has had its lessons.

    Attributes:
        step: what all work on the model is units of.
        adapter_training: what it learned.
        name: of the stages.
    """

    step: DiffusionStep
    adapter_training: AdapterTraining
    name: str = "asking"

    @cached_property
    def steps(self) -> Tensor:
        """[n] int64, the time-steps that are asked about."""
        return self.adapter_training.grid()

    def decided(
        self, images: Sequence[EscalationCandidates], encoded: Mapping[int, Encoded], folder: str, stages: Stages
    ) -> Outcome:
        """Ask in rounds until every image is decided.

        Args:
            images: N images.
            encoded: by `EscalationCandidates.part`: their latents.
            folder: where the answers go.
            stages: what carries it out.

        Raises:
            IncompleteError: a unit failed.
        """
        import torch

        section, contest = self.adapter_training.section, self._round_state(images, encoded)

        def ask(number: int, image: np.ndarray, column: np.ndarray, entry: np.ndarray) -> np.ndarray:
            units = list(contest.units(f"{folder}/round-{number:02d}", image, column, entry))
            stages.run(f"{self.name}, round {number + 1}", self.step, [unit for unit, _ in units])
            answers = np.zeros(len(image), np.float32)
            for unit, rows in units:
                answers[rows] = get_errors(self.adapter_training.store, unit.path)
            return answers

        present = torch.from_numpy(contest.candidates >= 0)
        decision = decide(section.schedule, present, len(self.steps), ask, error_rate=section.error_rate)
        return Outcome(images, decision, self.steps)

    def _round_state(self, images: Sequence[EscalationCandidates], encoded: Mapping[int, Encoded]) -> RoundState:
        """Who competes for which image, and where its latents are."""
        labels = sorted({label for image in images for label in image.candidates})
        index = {label: i for i, label in enumerate(labels)}
        candidates = np.full((len(images), max((len(image.candidates) for image in images), default=1)), -1)
        for row, image in zip(candidates, images, strict=True):
            row[: len(image.candidates)] = [index[label] for label in image.candidates]
        parts = {part: number for number, part in enumerate(encoded)}
        rows = {part: {row: i for i, row in enumerate(of.rows)} for part, of in encoded.items()}
        return RoundState(
            parts=tuple(of.path for of in encoded.values()),
            part=np.array([parts[image.part] for image in images], dtype=np.int64),
            row=np.array([rows[image.part][image.row] for image in images], dtype=np.int64),
            candidates=candidates,
            class_prompt=tuple(self.adapter_training.class_prompt(label) for label in labels),
            steps=self.steps.numpy(),
            seed=self.adapter_training.section.seed,
            scale=self.adapter_training.scale(labels),
            batch_size=self.adapter_training.section.spec.most_rows,
        )
