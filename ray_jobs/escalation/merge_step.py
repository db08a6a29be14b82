"""The last step: first opinions of a shard in, its predictions out, the diffusion model's decisions in their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster import Part, Store
from ray_jobs.output.feature_parts import get_table, write_parquet
from ray_jobs.output.predictions import EscalatedRow, with_escalated


@dataclass(frozen=True, slots=True)
class EscalatedPrediction:
    """What the diffusion model says of one image.

    Attributes:
        row: of the shard's predictions.
        labels: candidates, the winner first, then by how long they held out and how well they explain the image.
        margin: how much larger the runner-up's mean error is than the winner's, as a share of it, >= 0.
        shares: the probability of each if the image is of one of them; None where the model was not examined.
    """

    row: int
    labels: tuple[str, ...]
    margin: float
    shares: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class MergeUnit:
    """One shard.

    Attributes:
        cheap_predictions: part of the first opinions.
        escalated_predictions: by row, rising.
    """

    cheap_predictions: str
    escalated_predictions: tuple[EscalatedPrediction, ...]


@dataclass(frozen=True, slots=True)
class MergeStep:
    """Writes predictions.

    Attributes:
        store: where the first opinions are.
        method: who decided, for `decided_by`.
        threshold: of the classifier; a label with a smaller score is withheld, whoever decided. None withholds none.
    """

    store: Store
    method: str
    threshold: float | None = None

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, state: None, unit: MergeUnit) -> Part:
        """One shard. A score is the probability that the class is a candidate at all, times the model's."""
        del state
        table = get_table(self.store, unit.cheap_predictions)
        listed = table.select(["top_labels", "top_scores"]).to_pydict()
        rows = {
            prediction.row: self._decided(
                prediction, listed["top_labels"][prediction.row], listed["top_scores"][prediction.row]
            )
            for prediction in unit.escalated_predictions
        }
        return Part(write_parquet(with_escalated(table, rows)), {"images": len(table), "escalated": len(rows)})

    def _decided(self, prediction: EscalatedPrediction, labels: Sequence[str], scores: Sequence[float]) -> EscalatedRow:
        """The row of one image; `labels` and `scores` are those of its cheap prediction."""
        cheap = dict(zip(labels, scores, strict=True))
        possible = min(1.0, sum(cheap[label] for label in prediction.labels))
        shares = prediction.shares
        decided = None if shares is None else tuple(possible * share for share in shares)
        withheld = decided is not None and self.threshold is not None and decided[0] < self.threshold
        return EscalatedRow(
            method=self.method,
            labels=prediction.labels,
            scores=decided,
            margin=prediction.margin,
            abstained=withheld,
        )
