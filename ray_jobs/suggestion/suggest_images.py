"""`fewshot suggest`: from the features and predictions of a run to a list of images to label next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster import Storage
from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.suggestion import Pick, Sample, suggest
from ray_jobs.labels import LabelEvent
from ray_jobs.output.feature_parts import FeatureRows
from ray_jobs.report.markup import plural
from ray_jobs.results.image_list import ImageList, ListedImage
from ray_jobs.suggestion.covered_images import CoveredImages, add_examples, read_answers
from ray_jobs.suggestion.embedded_run import EmbeddedRun, unit_rows
from ray_jobs.suggestion.hash_sample import UNKNOWN_DOUBT, HashSample, SampledImage

SAMPLE_SIZE = 200_000
"""Images of an archive that are to be covered, at most."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Images of a shard that have features: what is known about each, and these [n, D] float32, unit rows."""

    images: list[SampledImage]
    features: NDArray[np.float32]


def suggest_images(
    place: str,
    count: int,
    storage: Storage = DEFAULT_STORAGE,
    *,
    job: str | None = None,
    sample_size: int = SAMPLE_SIZE,
) -> tuple[EmbeddedRun, ImageList]:
    """Choose images to label next.

    Args:
        place: an output, or the folder of a run.
        count: images to choose, >= 1.
        storage: how S3 is reached.
        job: of an output with several jobs, the name of the one that is meant.
        sample_size: images of the archive that are to be covered, at most.

    Returns:
        the run, and the list.

    Raises:
        JobError: there is no run with features, or something that is stored is damaged.
        ClusterError: the archive is not where it was, or storage does not respond.
    """
    embedded = EmbeddedRun.open(place, storage, job=job)
    archive = embedded.source.identity
    covered, answers = CoveredImages(), read_answers(embedded, archive)
    notices = [notice for notice in (add_examples(covered, embedded),) if notice is not None]
    sample = HashSample(_size(embedded, sample_size))
    for part in embedded.parts(lambda shard, rows: _part(embedded, shard, rows)):
        sample.offer(part.images, part.features)
        _add_answered(covered, part, answers)
    images, features = sample.drawn()
    guesses = np.array([covered.index(image.label) for image in images], np.int64)
    labelled = covered.rows(features.shape[1])
    doubt = np.array([image.doubt for image in images], np.float32)
    picks = suggest(Sample(features, doubt), labelled, count, guesses=guesses) if images else []
    names = list(covered.classes)
    return embedded, ImageList(
        kind="suggestion",
        run=embedded.run.folder,
        archive=archive,
        requested=count,
        considered=len(images),
        labelled=len(labelled),
        notices=(*embedded.notices, *notices, *_shortage(len(picks), count, len(images))),
        images=tuple(_listed(images[pick.row], pick, names) for pick in picks),
    )


def _size(embedded: EmbeddedRun, most: int) -> int:
    """Return the size of the sample: no more rows are reserved than there are images."""
    archive = embedded.run.plan.archive
    return most if archive is None or archive.images is None else max(1, min(most, archive.images))


def _part(embedded: EmbeddedRun, shard: str, rows: FeatureRows) -> _Part:
    """Join the features of a shard with its predictions."""
    positions, features = unit_rows(rows)
    table = embedded.predicted(shard)
    predicted = {} if table is None else {row["image"]: row for row in table.to_pylist()}
    images = [_sampled(rows, shard, position, predicted.get(rows.images[position])) for position in positions.tolist()]
    return _Part(images, features)


def _sampled(rows: FeatureRows, shard: str, position: int, predicted: Mapping[str, object] | None) -> SampledImage:
    top, score = (None, None) if predicted is None else (predicted["top_labels"], predicted["score"])
    label = str(top[0]) if isinstance(top, Sequence) and top else None
    known = float(score) if isinstance(score, float) else None
    is_unknown = predicted is not None and predicted["status"] == "unknown"
    doubt = UNKNOWN_DOUBT if known is None or is_unknown else 1.0 - known
    return SampledImage(rows.images[position], rows.sources[position], shard, position, label, known, doubt)


def _add_answered(covered: CoveredImages, part: _Part, answers: Mapping[str, LabelEvent]) -> None:
    if answers:
        for image, row in zip(part.images, part.features, strict=True):
            if (event := answers.get(image.image)) is not None:
                covered.add(row, event.label)


def _listed(image: SampledImage, pick: Pick, classes: Sequence[str]) -> ListedImage:
    reason = pick.reason if pick.label is None else f"{pick.reason}: {classes[pick.label]}"
    return ListedImage(
        image=image.image,
        source=image.source,
        shard=image.shard,
        row=image.row,
        reason=reason,
        label=image.label,
        score=image.score,
    )


def _shortage(found: int, asked: int, considered: int) -> list[str]:
    if found >= asked:
        return []
    rest = "all others are labelled, or are near-duplicates of labelled or suggested ones"
    return [f"{found} of {plural(asked, 'image is', 'images are')} suggested, of {considered} with features: {rest}."]
