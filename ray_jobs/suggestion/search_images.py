"""`fewshot search`: the images of an archive that are most similar to a text or to an image.

The search is exact: every feature is read once and compared, and the most similar images are kept. A product in float32
where the features lie finds the few images of a part that may be among them, with the largest error that it can have;
only these get their keys, and a cosine in float64, which depends on nothing but the image and the query.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cluster import Storage
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.errors import JobError
from ray_jobs.output.feature_parts import named_if_damaged
from ray_jobs.output.feature_values import Keys, Values, feature_values, read_keys
from ray_jobs.output.layout import shard_of
from ray_jobs.results.image_list import ImageList, ListedImage
from ray_jobs.suggestion.embedded_run import EmbeddedRun
from ray_jobs.suggestion.query_features import Query, embed_query

TINY = 1e-25
"""Squared length below which squares in float32 may have lost digits."""


@dataclass(frozen=True, slots=True)
class _Nearest:
    """The most similar images of a part, the most similar first; `read` is its number of images with features."""

    images: list[ListedImage]
    read: int


def search_images(
    place: str, query: Query, count: int, storage: Storage = DEFAULT_STORAGE, *, job: str | None = None
) -> tuple[EmbeddedRun, ImageList]:
    """Find the images that are most similar to a query.

    Args:
        place: an output, or the folder of a run.
        query: a text or an image.
        count: images to find, >= 1.
        storage: how S3 is reached.
        job: of an output with several jobs, the name of the one that is meant.

    Returns:
        the run, and the list; of equally similar images, the first in the archive's order come first.

    Raises:
        JobError: there is no run with features, its backbone has no text, or something that is stored is damaged.
        UnreadableImageError: the image of the query cannot be read.
        ClusterError: the archive is not where it was, or storage does not respond.
    """
    embedded = EmbeddedRun.open(place, storage, job=job)
    archive = embedded.source.identity
    direction = embed_query(query, embedded.job, storage)
    found, read = nearest_images(embedded, direction, count)
    return embedded, ImageList(
        kind="search",
        run=embedded.run.folder,
        archive=archive,
        query=query.text if query.text is not None else query.image,
        requested=count,
        considered=read,
        notices=embedded.notices,
        images=tuple(_with_predictions(found, embedded)),
    )


def nearest_images(embedded: EmbeddedRun, direction: NDArray[np.float32], count: int) -> tuple[list[ListedImage], int]:
    """Compare all features of a run with a direction [D] of length 1.

    Returns:
        the most similar images, `count` of them at most, and the number of images with features.

    Raises:
        JobError: the features have another size, or a part is damaged.
        StorageError: storage does not respond.
    """
    search = _Search(embedded, direction, count)
    read = 0
    for part in embedded.map_parts(search.look_at):
        read += part.read
        search.keep(part.images)
    return search.found, read


@dataclass(slots=True)
class _Search:
    """A search, in the order of the archive.

    Attributes:
        embedded: the run.
        direction: [D] float32 of length 1.
        count: images to find.
        found: the most similar ones so far, the most similar first.
        floor: cosine that an image must exceed to be among them. It only rises, so an old value is one, too.
    """

    embedded: EmbeddedRun
    direction: NDArray[np.float32]
    count: int
    found: list[ListedImage] = field(default_factory=list)
    floor: float = -math.inf

    def keep(self, images: list[ListedImage]) -> None:
        """Keep the most similar of those found and of later images; equal ones keep their order."""
        if images:
            self.found = heapq.nsmallest(self.count, [*self.found, *images], key=_order)
        if len(self.found) == self.count:
            self.floor = -_order(self.found[-1])

    def look_at(self, path: str) -> _Nearest:
        """Find what may be among the most similar images in a part of features.

        Raises:
            JobError: the features have another size, or the part is damaged.
            StorageError: storage does not respond.
        """
        with named_if_damaged(self.embedded.store, path):
            data = self.embedded.store.get(path)
            values = feature_values(data)
        _check_size(values, self.direction)
        chosen, read = promising(values, self.direction, self.count, self.floor)
        if not len(chosen):
            return _Nearest([], read)
        with named_if_damaged(self.embedded.store, path):
            keys = read_keys(data)
        similarities = cosines(values[chosen, 0], self.direction)
        order = np.argsort(-similarities, kind="stable")[: self.count]
        positions = keys.read[chosen[order]]
        return _Nearest(_listed(shard_of(path), keys, positions.tolist(), similarities[order].tolist()), read)


def promising(
    values: Values, direction: NDArray[np.float32], count: int, floor: float
) -> tuple[NDArray[np.int64], int]:
    """Find the images of a part that may be among the most similar ones.

    Args:
        values: [r, V, D] float32; the first view is compared.
        direction: [D] float32 of length 1.
        count: of the most similar images.
        floor: cosine that is reached by as many images elsewhere.

    Returns:
        the rows, ascending, and the number of images that have features: finite ones with a length. Every image among
        the `count` most similar ones of the part whose cosine is above the floor is there.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        squares = np.einsum("rvd,rvd->rv", values, values)
        has_features = np.isfinite(squares).all(axis=1) & (squares[:, 0] > 0.0)
        rough = np.where(has_features, values[:, 0] @ direction / np.sqrt(squares[:, 0]), -np.inf)
    is_tiny = has_features & (squares[:, 0] < TINY)
    rough[is_tiny] = -np.inf
    error = len(direction) * 2.0**-23  # Of sums of D products in float32, at most, beside the lengths.
    least = floor - error
    if len(rough) > count:
        least = max(least, float(np.partition(rough, -count)[-count]) - 2.0 * error)
    return np.flatnonzero(is_tiny | has_features & (rough >= least)), int(has_features.sum())


def cosines(features: NDArray[np.float32], direction: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosines of rows [r, D] of any length > 0 to a direction, [r] float32; equal rows have equal ones."""
    rows, unit = features.astype(np.float64), direction.astype(np.float64)
    similarities = np.einsum("rd,d->r", rows, unit) / np.sqrt(np.einsum("rd,rd->r", rows, rows))
    bounded: NDArray[np.float32] = np.clip(similarities, -1.0, 1.0).astype(np.float32)
    return bounded


def _listed(shard: str, keys: Keys, rows: list[int], similarities: list[float]) -> list[ListedImage]:
    return [
        ListedImage(image=keys.images[row], source=keys.sources[row], shard=shard, row=row, similarity=similarity)
        for row, similarity in zip(rows, similarities, strict=True)
    ]


def _order(image: ListedImage) -> float:
    """Sort the most similar first; equal ones keep their order."""
    return 0.0 if image.similarity is None else -image.similarity


def _check_size(values: Values, direction: NDArray[np.float32]) -> None:
    if len(values) and values.shape[2] != len(direction):
        problem = f"the features of the run have {values.shape[2]} numbers each, those of its model {len(direction)}"
        raise JobError([f"{problem}: the weights have changed. Run the job again."])


def _with_predictions(images: list[ListedImage], embedded: EmbeddedRun) -> list[ListedImage]:
    """Add what the run predicts for the images, as far as it has predictions."""
    known: dict[tuple[str, str], dict[str, object]] = {}
    for shard in dict.fromkeys(image.shard for image in images):
        if (table := embedded.predicted(shard)) is not None:
            known |= {(shard, row["image"]): row for row in table.to_pylist()}
    return [_predicted(image, known.get((image.shard, image.image))) for image in images]


def _predicted(image: ListedImage, row: dict[str, object] | None) -> ListedImage:
    top = None if row is None else row["top_labels"]
    if row is None or not isinstance(top, list) or not top:
        return image
    score = row["score"]
    return replace(image, label=str(top[0]), score=score if isinstance(score, float) else None)
