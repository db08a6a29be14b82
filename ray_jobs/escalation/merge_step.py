"""The last step: first opinions of a shard in, its predictions out, the diffusion model's decisions in their places."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from cluster import Part, Store
from ray_jobs.output.feature_parts import get_table, write_parquet


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
        columns = {name: table[name].to_pylist() for name in table.column_names}
        for verdict in unit.escalated_predictions:
            believed = dict(zip(columns["top_labels"][verdict.row], columns["top_scores"][verdict.row], strict=True))
            possible = min(1.0, sum(believed[label] for label in verdict.labels))
            scores = None if verdict.shares is None else [possible * share for share in verdict.shares]
            withheld = scores is not None and self.threshold is not None and scores[0] < self.threshold
            class_prompt = {
                "label": verdict.labels[0],
                "score": None if scores is None else scores[0],
                "margin": verdict.margin,
                "top_labels": list(verdict.labels),
                "top_scores": scores,
                "decided_by": self.method,
                "status": "abstained" if withheld else "ok",
            }
            for name, value in class_prompt.items():
                columns[name][verdict.row] = value
        merged = pa.table({name: columns[name] for name in table.column_names}, schema=table.schema)
        return Part(write_parquet(merged), {"images": len(merged), "escalated": len(unit.escalated_predictions)})
