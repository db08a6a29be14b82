"""Images that are nearly the same by their features: copies among the images looked at, and copies of examples.

Two images are copies if the cosine of their features is above `NEAR_DUPLICATE`, the bound that `fewshot suggest` has. A
report looks at a bounded number of images and says how many; it compares features, never files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest

import numpy as np
from numpy.typing import NDArray

from cluster import Store
from ray_jobs.labels.kept_images import MARK
from ray_jobs.output.feature_parts import view_features, view_table
from ray_jobs.output.layout import Spot, present_parts, shard_of
from ray_jobs.output.runs import Run
from ray_jobs.report.example_rows import ExampleRows
from ray_jobs.report.image_sample import NEAR_DUPLICATE, ROWS, SHARDS, Directions, evenly
from ray_jobs.suggestion.embedded_run import unit_rows

SAME = 0.9999
"""Cosine from which two images are one picture, as far as the model can tell."""
GROUPS, OF_GROUP = 8, 6
"""Groups of copies that are shown, and images of each."""
LEAKS = 12
"""Copies of examples that are shown."""
SEARCHED, PAIRS = 20_000, 10**8
"""Images that are compared with the examples, and pairs of both, at most (about)."""
_TILE_PAIRS = 1 << 20


@dataclass(frozen=True, slots=True)
class CopiedImage:
    """An image with copies.

    Attributes:
        spot: its position.
        image: its key.
        label: the most probable class; None without a prediction.
    """

    spot: Spot
    image: str
    label: str | None


@dataclass(frozen=True, slots=True)
class Copies:
    """Copies among the images looked at.

    Attributes:
        looked_at: number of images with features.
        images: of these, images that are copies of another one.
        groups: the largest groups, each with at most `OF_GROUP` images.
        sizes: number of images of each of these groups.
    """

    looked_at: int
    images: int
    groups: tuple[tuple[CopiedImage, ...], ...]
    sizes: tuple[int, ...]

    @property
    def spots(self) -> list[tuple[Spot, str]]:
        """Positions of the images that are shown, with their keys."""
        return [(each.spot, each.image) for group in self.groups for each in group]


@dataclass(frozen=True, slots=True)
class Leak:
    """An image of the archive that is a copy of an example.

    Attributes:
        copy: the image.
        example: reference of the most similar example.
        given: the class of that example.
        cosine: of the features of both.
    """

    copy: CopiedImage
    example: str
    given: str
    cosine: float


@dataclass(frozen=True, slots=True)
class Leaks:
    """Copies of examples in the archive.

    Attributes:
        looked_at: number of images with features that were compared with the examples.
        images: of these, copies of an example.
        same: of these, images that are the same picture as far as the model can tell.
        shown: some of them, the most similar first.
    """

    looked_at: int
    images: int
    same: int
    shown: tuple[Leak, ...]

    @property
    def spots(self) -> list[tuple[Spot, str]]:
        """Positions of the images that are shown, with their keys."""
        return [(leak.copy.spot, leak.copy.image) for leak in self.shown]


def read_directions(store: Store, features: Sequence[str], shards: Sequence[str]) -> Directions:
    """Read the features of the first `ROWS` images of some shards.

    Args:
        store: the output.
        features: parts of features; shards without one are passed over, since features may be removed.
        shards: fingerprints.

    Raises:
        JobError: a part is damaged.
        StorageError: storage does not respond.
    """
    wanted = [part for part in features if shard_of(part) in set(shards)]
    found: dict[Spot, NDArray[np.float32]] = {}
    for part in present_parts(store, wanted):
        rows, units = unit_rows(view_features(store, part))
        first = rows < ROWS
        few = zip(rows[first].tolist(), units[first], strict=True)  # A copy: views would keep the whole part.
        found |= {Spot(shard_of(part), row): unit for row, unit in few}
    return found


def sampled_directions(run: Run) -> Directions:
    """Read the features of the images that a report chooses from, see `image_sample`. Raises as `read_directions`."""
    parts = evenly(run.prediction_parts(), SHARDS)
    return read_directions(run.store, run.plan.features, [shard_of(part) for part in parts])


def find_copies(store: Store, predictions: Sequence[str], directions: Directions) -> Copies:
    """Group images with their copies.

    Args:
        store: the output.
        predictions: parts of predictions, for names and labels of the images.
        directions: of the images looked at, in the order in which groups are begun: an image joins the first group with
            whose first image it is a copy.
    """
    spots = list(directions)
    groups = [group for group in _grouped(np.stack([*directions.values()])) if len(group) > 1] if spots else []
    largest = sorted(groups, key=lambda group: (-len(group), group[0]))[:GROUPS]
    shown = [[spots[row] for row in group[:OF_GROUP]] for group in largest]
    named = _named(store, predictions, [spot for group in shown for spot in group])
    return Copies(
        looked_at=len(spots),
        images=sum(map(len, groups)),
        groups=tuple(tuple(named[spot] for spot in group if spot in named) for group in shown),
        sizes=tuple(map(len, largest)),
    )


def _grouped(units: NDArray[np.float32]) -> list[list[int]]:
    """Return the rows of unit features [N, D] in groups: each row with the first that began one and is near."""
    near = units @ units.T > NEAR_DUPLICATE
    groups: dict[int, list[int]] = {}
    for row in range(len(units)):
        first = next((leader for leader in np.flatnonzero(near[row, :row]).tolist() if leader in groups), row)
        groups.setdefault(first, []).append(row)
    return list(groups.values())


def find_leaks(run: Run, examples: ExampleRows, images: int) -> Leaks | None:
    """Compare images of an archive with the examples that the run learned from.

    Examples from the ledger of labels are images of the archive, and are passed over.

    Args:
        run: with the features of its archive, at least in part.
        examples: with their features.
        images: of the archive.

    Returns:
        None where there is nothing to compare.

    Raises:
        JobError: a part is damaged.
        StorageError: storage does not respond.
    """
    own = np.array([not image.startswith(MARK) for image in examples.images], bool)
    numbers = np.flatnonzero(own & (np.linalg.norm(examples.features, axis=1) > 0.0))
    features = present_parts(run.store, run.plan.features)
    if not len(numbers) or not features or not images:
        return None
    known = examples.features[numbers].astype(np.float32)
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    wanted = max(1, min(SEARCHED, PAIRS // len(known)))
    looked_at, found = 0, list[tuple[float, Spot, int]]()
    for part in evenly(features, max(2, math.ceil(wanted * len(features) / images))):
        rows, units = unit_rows(view_features(run.store, part))
        rows, units = rows[: wanted - looked_at], units[: wanted - looked_at]
        looked_at += len(rows)
        for row, cosine, example in _nearest(rows, units, known):
            if cosine > NEAR_DUPLICATE:
                found.append((cosine, Spot(shard_of(part), row), int(numbers[example])))
        if looked_at >= wanted:
            break
    best = nlargest(LEAKS, found, key=lambda each: (each[0], each[1].shard, -each[1].row))
    named = _named(run.store, run.prediction_parts(), [spot for _, spot, _ in best])
    shown = tuple(
        Leak(named[spot], examples.images[example], examples.label(example), min(1.0, cosine))
        for cosine, spot, example in best
        if spot in named
    )
    return Leaks(looked_at, len(found), sum(cosine >= SAME for cosine, _, _ in found), shown)


def _nearest(
    rows: NDArray[np.int64], units: NDArray[np.float32], known: NDArray[np.float32]
) -> Iterator[tuple[int, float, int]]:
    """Yield the number of each image, and the cosine and the number of its nearest example."""
    tile = max(1, _TILE_PAIRS // len(known))
    for start in range(0, len(rows), tile):
        cosines = units[start : start + tile] @ known.T
        nearest = cosines.argmax(axis=1)
        best = np.round(cosines[np.arange(len(nearest)), nearest].astype(np.float64), 5)
        yield from zip(rows[start : start + tile].tolist(), best.tolist(), nearest.tolist(), strict=True)


def _named(store: Store, predictions: Sequence[str], spots: Sequence[Spot]) -> dict[Spot, CopiedImage]:
    """Return images by position, with names and labels from the predictions."""
    parts = {shard_of(part): part for part in predictions}
    found = {}
    for shard in dict.fromkeys(spot.shard for spot in spots if spot.shard in parts):
        table = view_table(store, parts[shard], columns=["image", "top_labels"])
        for spot in spots:
            if spot.shard == shard and spot.row < len(table):
                labels = table["top_labels"][spot.row].as_py()
                found[spot] = CopiedImage(spot, table["image"][spot.row].as_py(), labels[0] if labels else None)
    return found
