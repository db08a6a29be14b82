"""The last step: cheap predictions of a shard in, its predictions out, with the diffusion model's decisions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cluster import Part, Store
from ray_jobs.output.feature_parts import get_table, write_parquet
from ray_jobs.output.predictions import EscalatedRow, with_escalated


@dataclass(frozen=True, slots=True)
class EscalatedPrediction:
    """The diffusion model's prediction of one image.

    Attributes:
        row: of the shard's predictions.
        labels: candidates, the winner first, then by the number of scored time-steps and the mean noise error.
        margin: how much larger the runner-up's mean error is than the winner's, as a share of it, >= 0.
        probabilities: of each label, given that the image is of one of them; None without a calibrated temperature.
    """

    row: int
    labels: tuple[str, ...]
    margin: float
    probabilities: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class MergeUnit:
    """One shard.

    Attributes:
        cheap_predictions: part of the cheap predictions.
        escalated_predictions: by row, rising.
    """

    cheap_predictions: str
    escalated_predictions: tuple[EscalatedPrediction, ...]


@dataclass(frozen=True, slots=True)
class MergeStep:
    """Writes predictions.

    Attributes:
        store: where the cheap predictions are.
        method: name of the diffusion method, for `decided_by`.
        threshold: of the classifier; labels with a smaller score are withheld, of either method. None withholds none.
    """

    store: Store
    method: str
    threshold: float | None = None

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, state: None, unit: MergeUnit) -> Part:
        """Merge the predictions of one shard.

        A score is the cheap method's probability of the candidates, times the diffusion model's among the candidates;
        there is none unless both are calibrated.
        """
        del state
        table = get_table(self.store, unit.cheap_predictions)
        listed = table.select(["top_labels", "top_scores"]).to_pydict()
        found = {
            prediction.row: self._row(
                prediction, listed["top_labels"][prediction.row], listed["top_scores"][prediction.row]
            )
            for prediction in unit.escalated_predictions
        }
        rows = {row: escalated for row, escalated in found.items() if escalated is not None}
        return Part(write_parquet(with_escalated(table, rows)), {"images": len(table), "escalated": len(rows)})

    def _row(
        self, prediction: EscalatedPrediction, labels: Sequence[str], scores: Sequence[float] | None
    ) -> EscalatedRow | None:
        """Return the row of one image; `labels` and `scores` are those of its cheap prediction.

        None if the scores are not finite: such numbers decide nothing, and the cheap prediction stays.
        """
        among_candidates, merged = prediction.probabilities, None
        if scores is not None and among_candidates is not None:
            cheap = dict(zip(labels, scores, strict=True))
            of_candidates = min(1.0, sum(cheap[label] for label in prediction.labels))
            merged = tuple(of_candidates * share for share in among_candidates)
        if not all(map(math.isfinite, (*(merged or ()), prediction.margin))):
            return None
        abstained = merged is not None and self.threshold is not None and merged[0] < self.threshold
        return EscalatedRow(
            method=self.method,
            labels=prediction.labels,
            scores=merged,
            margin=prediction.margin,
            abstained=abstained,
        )
