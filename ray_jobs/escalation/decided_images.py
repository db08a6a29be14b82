"""Images with their winners and noise errors: what predictions, metrics and reports state about escalated images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from ray_jobs.escalation.merge_step import EscalatedPrediction
from ray_jobs.escalation.rounds import ScoredCandidates
from ray_jobs.escalation.selection import EscalationCandidate
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.results.escalation_summary import CalibrationSummary, EscalationSummary

if TYPE_CHECKING:
    from torch import Tensor

GAPS_SCHEMA = pa.schema(
    [
        pa.field("image", pa.string()),
        pa.field("part", pa.int64()),
        pa.field("row", pa.int64()),
        pa.field("cheap_label", pa.string()),
        pa.field("cheap_score", pa.float32()),
        pa.field("label", pa.string()),
        pa.field("runner_up", pa.string()),
        pa.field("margin", pa.float32()),
        pa.field("forwards", pa.int64()),
        pa.field("gaps", pa.list_(pa.float32())),
        pa.field("counts", pa.list_(pa.int32())),
    ]
)
"""A row for each escalated image, the least certain first.

`part` and `row` locate its prediction, `cheap_label` and `cheap_score` are those of its cheap prediction. `gaps`: the
mean error of the runner-up less that of the winner, in ten equal bins of the time-steps, 0 where nothing was scored;
`counts`: the number of time-steps in that mean."""


@dataclass(frozen=True)
class DecidedImages:
    """N images, each with a winner among its candidates.

    Attributes:
        images: N images.
        scored: their candidates.
        steps: [n] int64, the time-steps of the grid.
    """

    images: Sequence[EscalationCandidate]
    scored: ScoredCandidates
    steps: Tensor

    @property
    def present(self) -> Tensor:
        """[N, C] bool, the candidates that an image has."""
        import torch

        counts = torch.tensor([len(image.candidates) for image in self.images], dtype=torch.int64)
        return torch.arange(self.scored.errors.shape[1]) < counts[:, None]

    def escalated_predictions(self, temperature: float | None = None) -> dict[int, tuple[EscalatedPrediction, ...]]:
        """Return the predictions by part, in the order of their rows.

        Args:
            temperature: of the gaps of errors; None gives no probabilities.
        """
        from fewshot.diffusion.error_gaps import probabilities

        found: dict[int, list[EscalatedPrediction]] = defaultdict(list)
        ranking, margins = self.scored.ranking.tolist(), self.scored.margins.tolist()
        known = probabilities(self.scored.gaps, self.present, temperature or 1.0).tolist()
        for image, rank, margin, probability in zip(self.images, ranking, margins, known, strict=True):
            columns = [column for column in rank if column < len(image.candidates)]
            found[image.part].append(
                EscalatedPrediction(
                    row=image.row,
                    labels=tuple(image.candidates[column] for column in columns),
                    margin=margin,
                    probabilities=None if temperature is None else tuple(probability[column] for column in columns),
                )
            )
        return {part: tuple(sorted(rows, key=lambda prediction: prediction.row)) for part, rows in found.items()}

    def summary(
        self, *, method: str, classes: int, trained: int, calibration: CalibrationSummary | None
    ) -> EscalationSummary:
        """Return the summary for the metrics.

        Args:
            method: name of the method.
            classes: number of classes among the candidates.
            trained: of these, classes with trained adapters.
            calibration: accuracy on held-out examples; None if it was not measured.
        """
        changed = sum(image.label != label for image, label in zip(self.images, self._labels, strict=True))
        return EscalationSummary(
            method=method,
            images=len(self.images),
            labels_changed=changed,
            forwards=self.scored.forwards,
            forwards_if_exhaustive=sum(len(image.candidates) for image in self.images) * self._steps_with_weight,
            time_steps=len(self.steps),
            classes=classes,
            trained_classes=trained,
            calibration=calibration,
        )

    @property
    def _steps_with_weight(self) -> int:
        return int((self.scored.weights > 0).sum())

    @property
    def _labels(self) -> list[str]:
        """Labels of the winners."""
        return [i.candidates[c] for i, c in zip(self.images, self.scored.winner.tolist(), strict=True)]

    def to_parquet(self) -> bytes:
        """Return the cost of each decision, and its gaps by time-step, see `GAPS_SCHEMA`."""
        from fewshot.diffusion.error_gaps import gaps_by_time

        scored = self.scored
        runner_up = scored.ranking[:, min(1, scored.ranking.shape[1] - 1)]
        found = gaps_by_time(scored.errors, scored.scored, scored.winner, runner_up, self.steps)
        columns = {
            **{name: [getattr(image, name) for image in self.images] for name in ("image", "part", "row")},
            "cheap_label": [image.label for image in self.images],
            "cheap_score": [image.score for image in self.images],
            "label": self._labels,
            "runner_up": [i.candidates[c] for i, c in zip(self.images, runner_up.tolist(), strict=True)],
            "margin": scored.margins.tolist(),
            "forwards": scored.scored.sum(dim=(1, 2)).tolist(),
            "gaps": found.gaps.tolist(),
            "counts": found.counts.tolist(),
        }
        return write_parquet(pa.table(columns, schema=GAPS_SCHEMA))
