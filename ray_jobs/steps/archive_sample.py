"""The sample of the archive that a classifier learns from: drawn once, and kept with the classifier.

    archive-samples/<sample>.parquet   features of the images; named after all that determines them
    archive-samples/<training>.json    which sample a training keeps

A sample has the images whose keys have the lowest hashes, so that it depends on the archive's contents alone. A grown
archive would have another sample, hence another classifier and other labels for old images. So the first run notes its
sample under the name of the training (examples, backbone, method, hyperparameters, seed) and the place of the archive;
later runs find it there, whatever the archive has become, until `[classifier] archive_sample = "renew"`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cluster import Store, fingerprint
from ray_jobs.errors import DamagedError, JobError
from ray_jobs.inputs.archive import Listing
from ray_jobs.output.feature_parts import READERS, FeatureRows, concatenate, encode, load
from ray_jobs.output.layout import feature_part, from_json, to_json

if TYPE_CHECKING:
    from torch import Tensor

SAMPLES = "archive-samples"
SAMPLE_VERSION = 1
"""Part of the name of every sample: raised when samples are drawn otherwise."""
PER_CLASS, LEAST_IMAGES, MOST_IMAGES = 100, 10_000, 1_000_000
"""Images of a sample: so many for each class, within these limits."""
BURST_COSINE = 0.9
"""Of deviations from the mean image: 0.97 between images whose mean cosine is 0.7."""
DRAWN_FROM = 16
"""A sample is drawn from the shards of so many times its images, if the archive has more: nobody reads a billion."""


def sample_size(classes: int) -> int:
    """Return the number of images of a sample, of an archive that has as many."""
    return min(MOST_IMAGES, max(LEAST_IMAGES, PER_CLASS * classes))


@dataclass(frozen=True, slots=True)
class ArchiveSample:
    """A sample, drawn or not.

    Attributes:
        name: fingerprint of the features it is drawn from, the contents of the archive and the number of images.
        size: number of images, of an archive that has as many.
        is_kept: whether it is that of an earlier run, so that it cannot be drawn anew from an archive that changed.
    """

    name: str
    size: int
    is_kept: bool = False

    @property
    def path(self) -> str:
        """Where it is stored in the output."""
        return f"{SAMPLES}/{self.name}.parquet"

    def load(self, store: Store) -> Tensor | None:
        """Return its features, [M, D] float32, unit rows; None if no image of the archive can be read.

        Raises:
            JobError: it is gone.
            DamagedError: it is damaged, and was removed.
        """
        import torch
        from torch.nn.functional import normalize

        try:
            rows = load(store, self.path)
        except FileNotFoundError as error:
            raise JobError([f'{store.url(self.path)} is gone; set [classifier] archive_sample = "renew"']) from error
        return normalize(torch.from_numpy(rows.views[:, 0]), dim=-1) if len(rows) else None

    def is_empty(self, store: Store) -> bool:
        """Whether it is stored, and has no image."""
        return store.exists(self.path) and not len(load(store, self.path))


def sample_of(listing: Listing, features: str, *, classes: int) -> ArchiveSample:
    """Return the sample of an archive as it is now.

    Args:
        listing: of the archive.
        features: the folder of its features.
        classes: K.
    """
    size = sample_size(classes)
    return ArchiveSample(fingerprint([SAMPLE_VERSION, features, listing.contents, size]), size)


def kept_sample(store: Store, note: str, current: ArchiveSample) -> ArchiveSample:
    """Return the sample that a training keeps; `current` if it keeps none.

    Args:
        store: the output.
        note: from `note_path`.
        current: the sample of the archive as it is now.
    """
    try:
        kept = from_json(store.get(note))
        return ArchiveSample(str(kept["sample"]), int(kept["size"]), kept["sample"] != current.name)
    except FileNotFoundError:
        return current
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        store.delete(note)
        raise DamagedError(f"{store.url(note)} was damaged and is gone; run again to draw the sample anew") from error


def note_path(training: object, features: str) -> str:
    """Return where the sample of a training is noted, for the archive with these features."""
    return f"{SAMPLES}/{fingerprint([training, features])}.json"


def draw_sample(store: Store, sample: ArchiveSample, listing: Listing, features: str) -> None:
    """Draw a sample from the archive's features, unless it is there.

    Raises:
        JobError: it is one of an earlier run, and is gone.
        DamagedError: a part of features is damaged, and was removed.
    """
    if store.exists(sample.path):
        return
    if sample.is_kept:
        raise JobError([f'{store.url(sample.path)} is gone; set [classifier] archive_sample = "renew"'])
    parts = [feature_part(features, name) for name in drawn_shards(listing.shards, DRAWN_FROM * sample.size)]
    store.put(sample.path, encode(without_bursts(lowest(_read(store, parts), sample.size))))


def keep_sample(store: Store, note: str, sample: ArchiveSample, *, renew: bool) -> None:
    """Note that a training keeps this sample; with `renew` in place of another. One without an image is not kept.

    Raises:
        JobError: another run noted another sample meanwhile.
        DamagedError: the sample is damaged, and was removed.
    """
    if (renew or not store.exists(note)) and sample.is_empty(store):
        return
    data = to_json({"sample": sample.name, "size": sample.size})
    if renew:
        store.put(note, data)
    elif not store.put_if_absent(note, data) and from_json(store.get(note))["sample"] != sample.name:
        raise JobError(["another run of this job drew the sample of the archive meanwhile; run again to use that"])


def drawn_shards(shards: Sequence[tuple[str, int | None]], images: int) -> list[str]:
    """Return the shards with the lowest hashes that have so many images; all of them if they do not say how many."""
    if any(size is None for _, size in shards):
        return [name for name, _ in shards]
    drawn, left = [], images
    for name, size in sorted(shards, key=lambda shard: _rank(shard[0])):
        if left <= 0:
            break
        drawn.append(name)
        left -= size or 0
    return drawn


def lowest(parts: Iterable[FeatureRows], size: int) -> FeatureRows:
    """Return the readable images with the lowest hashes of their keys, in the order of these."""
    kept: list[FeatureRows] = []
    for part in parts:
        kept.append(part.take([row for row, error in enumerate(part.errors) if error is None]))
        if sum(map(len, kept)) > 2 * size:
            kept = [_lowest(concatenate(kept), size)]
    return _lowest(concatenate(kept), size)


def lowest_rows(images: Sequence[str], size: int) -> list[int]:
    """Return the rows of the images with the lowest hashes of their keys, in the order of these."""
    return sorted(range(len(images)), key=lambda row: (_rank(images[row]), images[row]))[:size]


def without_bursts(rows: FeatureRows) -> FeatureRows:
    """Return the rows without those that hardly differ from the one before in the order of keys, as frames of a burst.

    They would count as often as the camera was triggered. Compared are deviations from the mean image: how similar two
    images of a kind are differs between backbones.
    """
    if not len(rows):
        return rows
    order = sorted(range(len(rows)), key=rows.images.__getitem__)
    directions = _unit(rows.views[:, 0])
    directions = _unit(directions - directions.mean(axis=0))
    kept = order[:1]
    for row in order[1:]:
        if not float(directions[row] @ directions[kept[-1]]) > BURST_COSINE:
            kept.append(row)
    return rows.take(sorted(kept))


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: np.ndarray = rows / np.maximum(lengths, np.float32(1e-30))
    return unit


def _lowest(rows: FeatureRows, size: int) -> FeatureRows:
    return rows.take(lowest_rows(rows.images, size))


def _rank(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16, person=b"sample").digest()


def _read(store: Store, parts: Sequence[str]) -> Iterator[FeatureRows]:
    """Yield parts in order, some read ahead."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="sample") as pool:
        for start in range(0, len(parts), READERS):
            yield from pool.map(lambda path: load(store, path), parts[start : start + READERS])
