"""What the diffusion model decided and what it saw: for predictions, for metrics, and for people who ask why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from ray_jobs.escalation.merge_step import EscalatedPrediction
from ray_jobs.escalation.rounds import Decision
from ray_jobs.escalation.selection import EscalationCandidates
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.results.escalation_summary import CalibrationSummary, EscalationSummary

if TYPE_CHECKING:
    from torch import Tensor

GAPS = "gaps.parquet"
"""Of a run."""
GAPS_SCHEMA = pa.schema(
    [
        pa.field("image", pa.string()),
        pa.field("part", pa.int64()),
        pa.field("row", pa.int64()),
        pa.field("first_label", pa.string()),
        pa.field("first_score", pa.float32()),
        pa.field("label", pa.string()),
        pa.field("runner_up", pa.string()),
        pa.field("margin", pa.float32()),
        pa.field("forwards", pa.int64()),
        pa.field("gaps", pa.list_(pa.float32())),
        pa.field("counts", pa.list_(pa.int32())),
    ]
)
"""A row an image that was asked about, the least certain first.

`part` and `row` say where its prediction is, `first_label` and `first_score` what the cheap method said. `gaps`: the
mean error of the runner-up less that of the winner, in ten equal bins of the time-steps, 0 where nothing was asked;
`counts`: how many time-steps that is the mean of."""


@dataclass(frozen=True)
class Outcome:
    """How a contest ended.

    Attributes:
        images: N images.
        decision: of each.
        steps: [n] int64, the time-steps of the grid.
    """

    images: Sequence[EscalationCandidates]
    decision: Decision
    steps: Tensor

    @property
    def present(self) -> Tensor:
        """[N, C] bool, which candidates an image has."""
        import torch

        counts = torch.tensor([len(image.candidates) for image in self.images], dtype=torch.int64)
        return torch.arange(self.decision.errors.shape[1]) < counts[:, None]

    def escalated_predictions(self, temperature: float | None = None) -> dict[int, tuple[EscalatedPrediction, ...]]:
        """By part, the verdicts on its images by row.

        Args:
            temperature: of the gaps of errors; without one, verdicts have no probabilities.
        """
        from fewshot.diffusion.confidence import probabilities

        found: dict[int, list[EscalatedPrediction]] = defaultdict(list)
        ranks, margins = self.decision.ranking.tolist(), self.decision.margins.tolist()
        shares = probabilities(self.decision.gaps, self.present, temperature or 1.0).tolist()
        for image, rank, margin, share in zip(self.images, ranks, margins, shares, strict=True):
            columns = [column for column in rank if column < len(image.candidates)]
            class_prompt = tuple(share[column] for column in columns) if temperature is not None else None
            found[image.part].append(
                EscalatedPrediction(image.row, tuple(image.candidates[c] for c in columns), margin, class_prompt)
            )
        return {
            part: tuple(sorted(escalated_predictions, key=lambda verdict: verdict.row))
            for part, escalated_predictions in found.items()
        }

    def summary(
        self, *, method: str, classes: int, learned: int, calibration: CalibrationSummary | None
    ) -> EscalationSummary:
        """Return what the metrics state.

        Args:
            method: name of the method.
            classes: number of classes among the candidates.
            learned: of these, classes with a trained adapter.
            calibration: how the model did on held-out examples; None if it was not calibrated.
        """
        others = sum(image.label != label for image, label in zip(self.images, self._labels, strict=True))
        exhaustive = sum(len(image.candidates) for image in self.images) * len(self.steps)
        return EscalationSummary(
            method=method,
            images=len(self.images),
            decided_otherwise=others,
            forwards=int(self.decision.forwards),
            forwards_if_exhaustive=exhaustive,
            time_steps=len(self.steps),
            classes=classes,
            learned=learned,
            calibration=calibration,
        )

    @property
    def _labels(self) -> list[str]:
        """Of the winners."""
        return [i.candidates[c] for i, c in zip(self.images, self.decision.winner.tolist(), strict=True)]

    def to_parquet(self) -> bytes:
        """What each decision cost, and at which time-steps it fell, see `GAPS_SCHEMA`."""
        from fewshot.diffusion.gaps import gaps_by_time

        decision = self.decision
        runner_up = decision.ranking[:, min(1, decision.ranking.shape[1] - 1)]
        found = gaps_by_time(decision.errors, decision.asked, decision.winner, runner_up, self.steps)
        columns = {
            **{name: [getattr(image, name) for image in self.images] for name in ("image", "part", "row")},
            "first_label": [image.label for image in self.images],
            "first_score": [image.score for image in self.images],
            "label": self._labels,
            "runner_up": [i.candidates[c] for i, c in zip(self.images, runner_up.tolist(), strict=True)],
            "margin": decision.margins.tolist(),
            "forwards": decision.asked.sum(dim=(1, 2)).tolist(),
            "gaps": found.gaps.tolist(),
            "counts": found.counts.tolist(),
        }
        return write_parquet(pa.table(columns, schema=GAPS_SCHEMA))
