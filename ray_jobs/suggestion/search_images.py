"""`fewshot search`: the images of an archive that are most similar to a text or to an image.

The search is exact: every feature is read once and compared, and the most similar images are kept.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cluster import Storage
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.errors import JobError
from ray_jobs.output.feature_parts import FeatureRows
from ray_jobs.results.image_list import ImageList, ListedImage
from ray_jobs.suggestion.embedded_run import EmbeddedRun, unit_rows
from ray_jobs.suggestion.query_features import Query, embed_query


@dataclass(frozen=True, slots=True)
class _Nearest:
    """The most similar images of a part, the most similar first; `read` is its number of images with features."""

    images: list[ListedImage]
    read: int


def search_images(
    place: str, query: Query, count: int, storage: Storage = DEFAULT_STORAGE
) -> tuple[EmbeddedRun, ImageList]:
    """Find the images that are most similar to a query.

    Args:
        place: an output, or the folder of a run.
        query: a text or an image.
        count: images to find, >= 1.
        storage: how S3 is reached.

    Returns:
        the run, and the list; of equally similar images, the first in the archive's order come first.

    Raises:
        JobError: there is no run with features, its backbone has no text, or something that is stored is damaged.
        UnreadableImageError: the image of the query cannot be read.
        ClusterError: the archive is not where it was, or storage does not respond.
    """
    embedded = EmbeddedRun.open(place, storage)
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
    found, read = list[ListedImage](), 0
    for part in embedded.parts(lambda shard, rows: _nearest(shard, rows, direction, count)):
        read += part.read
        found = heapq.nsmallest(count, [*found, *part.images], key=_order)
    return found, read


def _order(image: ListedImage) -> float:
    """Sort the most similar first; equal ones keep their order."""
    return 0.0 if image.similarity is None else -image.similarity


def _nearest(shard: str, rows: FeatureRows, direction: NDArray[np.float32], count: int) -> _Nearest:
    positions, features = unit_rows(rows)
    if len(features) and features.shape[1] != len(direction):
        problem = f"the features of the run have {features.shape[1]} numbers each, those of its model {len(direction)}"
        raise JobError([f"{problem}: the weights have changed. Run the job again."])
    similarities = features @ direction if len(features) else np.zeros(0, np.float32)
    chosen = np.argsort(-similarities, kind="stable")[:count].tolist()
    return _Nearest(
        [_listed(shard, rows, int(positions[row]), float(similarities[row])) for row in chosen], len(features)
    )


def _listed(shard: str, rows: FeatureRows, position: int, similarity: float) -> ListedImage:
    bounded = min(1.0, max(-1.0, similarity))
    return ListedImage(
        image=rows.images[position], source=rows.sources[position], shard=shard, row=position, similarity=bounded
    )


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
