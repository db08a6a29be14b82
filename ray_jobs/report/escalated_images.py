"""What a report shows of escalated images: the error gap by time-step of all, and a few of them.

Pictures are taken from the beginning of shards only, like those of the contact sheet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from cluster import Store
from ray_jobs.output.feature_parts import view_table
from ray_jobs.output.layout import GAPS, Spot, shard_of
from ray_jobs.report.image_sample import ROWS

SHOWN = 8
"""Images shown."""


@dataclass(frozen=True, slots=True)
class GapProfile:
    """Error gaps by time-step, in bins of equal width, the first with the least noise.

    Attributes:
        gaps: by how much the runner-up's error exceeds the winner's; positive values favour the winner.
        counts: number of values in each mean; 0 where nothing was scored.
    """

    gaps: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EscalatedImage:
    """An image that the diffusion model decided.

    Attributes:
        spot: where it is.
        image: its key.
        cheap: label and score of the cheap prediction; None for a score that is not calibrated.
        label: of the winner.
        runner_up: label of the candidate second to it.
        margin: by how much the runner-up's error is larger than the winner's, as a share of it.
        forwards: of the UNet, spent on it.
        profile: of its time-steps.
    """

    spot: Spot
    image: str
    cheap: tuple[str, float | None]
    label: str
    runner_up: str
    margin: float
    forwards: int
    profile: GapProfile


@dataclass(frozen=True, slots=True)
class EscalatedSample:
    """The escalated images that a report shows.

    Attributes:
        profile: mean of the gaps of all escalated images, in each bin over those that were scored there.
        images: a few images: those whose label changed before the others, each the least certain first.
    """

    profile: GapProfile
    images: tuple[EscalatedImage, ...]

    @property
    def spots(self) -> list[tuple[Spot, str]]:
        """The places of the images to show, with their keys."""
        return [(row.spot, row.image) for row in self.images]


def read_escalated_images(store: Store, run: str, features: Sequence[str]) -> EscalatedSample:
    """Read the gaps of a run with at least one escalated image.

    Args:
        store: the output.
        run: the run's folder.
        features: the parts of features that the run reads, in the archive's order.

    Raises:
        FileNotFoundError: the run has none.
    """
    table = view_table(store, f"{run}/{GAPS}")
    shards = [shard_of(part) for part in features]
    rows = table.take(_shown(table)).to_pylist()
    return EscalatedSample(_mean(table), tuple(_escalated_image(row, shards[row["part"]]) for row in rows))


def _shown(table: pa.Table) -> pa.Array:
    same = np.equal(table["cheap_label"].to_numpy(), table["label"].to_numpy()).astype(bool)
    order = np.argsort(same, kind="stable")
    near = order[table["row"].to_numpy()[order] < ROWS]
    return pa.array(near[:SHOWN], pa.int64())


def _mean(table: pa.Table) -> GapProfile:
    gaps, counts = (_matrix(table[name]) for name in ("gaps", "counts"))
    images = (counts > 0).sum(axis=0)
    means = (gaps * (counts > 0)).sum(axis=0, dtype=np.float64) / np.maximum(images, 1)
    return _profile(means.tolist(), images.tolist())


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of lists as [N, bins]."""
    return np.array(column.to_pylist()).reshape(len(column), -1)


def _escalated_image(row: Mapping[str, Any], shard: str) -> EscalatedImage:
    return EscalatedImage(
        spot=Spot(shard, row["row"]),
        image=row["image"],
        cheap=(row["cheap_label"], row["cheap_score"]),
        label=row["label"],
        runner_up=row["runner_up"],
        margin=row["margin"],
        forwards=row["forwards"],
        profile=_profile(row["gaps"], row["counts"]),
    )


def _profile(gaps: Sequence[float], counts: Sequence[int]) -> GapProfile:
    return GapProfile(tuple(gaps), tuple(counts))
