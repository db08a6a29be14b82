"""What the diffusion model saw, as far as it is shown: the gap by time-step of all images, and a few of them.

Pictures are looked for at the beginning of shards only, like those of the contact sheet.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster import Store
from ray_jobs.escalation.decided_images import GAPS
from ray_jobs.output.layout import PREDICTIONS, shard_of_prediction
from ray_jobs.report.image_sample import ROWS, Spot

SHOWN = 8
"""Images shown."""


@dataclass(frozen=True, slots=True)
class Profile:
    """By time-step, in bins of equal width, the first with the least noise.

    Attributes:
        gaps: how much larger the runner-up's error is than the winner's; positive speaks for the winner.
        counts: what each is the mean of; 0 where nothing was asked.
    """

    gaps: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EscalatedImage:
    """An image that was asked about.

    Attributes:
        spot: where it is.
        image: its key.
        first: label and score of the cheap method.
        label: of the winner.
        runner_up: the label that came closest.
        margin: by how much of the winner's error the runner-up's is larger.
        forwards: what it took.
        profile: over its time-steps.
    """

    spot: Spot
    image: str
    first: tuple[str, float]
    label: str
    runner_up: str
    margin: float
    forwards: int
    profile: Profile


@dataclass(frozen=True, slots=True)
class Seen:
    """What is shown.

    Attributes:
        profile: mean of the images' gaps, over those that were asked there.
        shown: a few images: those whose label changed before the others, each the least certain first.
    """

    profile: Profile
    shown: tuple[EscalatedImage, ...]

    @property
    def places(self) -> list[tuple[Spot, str]]:
        """Of the images to show, with their keys."""
        return [(row.spot, row.image) for row in self.shown]


def read_escalated_images(store: Store, run: str) -> Seen:
    """Read what a run kept that asked about an image or more.

    Raises:
        FileNotFoundError: it kept nothing.
    """
    table = pq.read_table(io.BytesIO(store.get(f"{run}/{GAPS}")))
    shards = [shard_of_prediction(part) for part in store.list(f"{run}/{PREDICTIONS}")]
    shown = tuple(_asked(row, shards[row["part"]]) for row in table.take(_chosen(table)).to_pylist())
    return Seen(_mean(table), shown)


def _chosen(table: pa.Table) -> pa.Array:
    same = np.equal(table["first_label"].to_numpy(), table["label"].to_numpy()).astype(bool)
    order = np.argsort(same, kind="stable")
    near = order[table["row"].to_numpy()[order] < ROWS]
    return pa.array(near[:SHOWN], pa.int64())


def _mean(table: pa.Table) -> Profile:
    gaps, counts = (_matrix(table[name]) for name in ("gaps", "counts"))
    images = (counts > 0).sum(axis=0)
    means = (gaps * (counts > 0)).sum(axis=0, dtype=np.float64) / np.maximum(images, 1)
    return Profile(tuple(means.tolist()), tuple(images.tolist()))


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """[N, bins] of a column of lists."""
    return np.array(column.to_pylist()).reshape(len(column), -1)


def _asked(row: Mapping[str, Any], shard: str) -> EscalatedImage:
    return EscalatedImage(
        spot=Spot(shard, row["row"]),
        image=row["image"],
        first=(row["first_label"], row["first_score"]),
        label=row["label"],
        runner_up=row["runner_up"],
        margin=row["margin"],
        forwards=row["forwards"],
        profile=_profile(row["gaps"], row["counts"]),
    )


def _profile(gaps: Sequence[float], counts: Sequence[int]) -> Profile:
    return Profile(tuple(gaps), tuple(counts))
