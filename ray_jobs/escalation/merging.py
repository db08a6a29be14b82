"""The last step: first opinions of a shard in, its predictions out, the diffusion model's decisions in their places."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from cluster import Part, Store
from ray_jobs.features import write_parquet


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the diffusion model says of one image.

    Attributes:
        row: of the shard's predictions.
        labels: candidates, the winner first, then by how long they held out and how well they explain the image.
        margin: how much larger the runner-up's mean error is than the winner's, as a share of it, >= 0.
    """

    row: int
    labels: tuple[str, ...]
    margin: float


@dataclass(frozen=True, slots=True)
class MergeUnit:
    """One shard.

    Attributes:
        opinions: part of the first opinions.
        verdicts: by row, rising.
    """

    opinions: str
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class MergeStep:
    """Writes predictions.

    Attributes:
        store: where the first opinions are.
        method: who decided, for `decided_by`.
    """

    store: Store
    method: str

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, state: None, unit: MergeUnit) -> Part:
        """One shard. A verdict has no score: nothing it was calibrated on was held out from the adapters."""
        del state
        table = pq.read_table(io.BytesIO(self.store.get(unit.opinions)))
        columns = {name: table[name].to_pylist() for name in table.column_names}
        for verdict in unit.verdicts:
            told = {
                "label": verdict.labels[0],
                "score": None,
                "margin": verdict.margin,
                "top_labels": list(verdict.labels),
                "top_scores": None,
                "decided_by": self.method,
                "status": "ok",
            }
            for name, value in told.items():
                columns[name][verdict.row] = value
        merged = pa.table({name: columns[name] for name in table.column_names}, schema=table.schema)
        return Part(write_parquet(merged), {"images": len(merged), "escalated": len(unit.verdicts)})
