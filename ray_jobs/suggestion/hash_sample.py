"""A random sample of an archive, drawn while its features stream by: the images whose keys have the lowest hashes."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

UNKNOWN_DOUBT = 1.0
"""Of images without a prediction: nothing says that their labels would be right."""


@dataclass(frozen=True, slots=True)
class SampledImage:
    """An image of the sample.

    Attributes:
        image, source: see `ray_jobs.results.image_list.ListedImage`.
        shard, row: likewise.
        label: the most probable class; None if there is no prediction.
        score: its calibrated probability; None where there is none.
        doubt: probability that the label is wrong, in [0, 1].
    """

    image: str
    source: str
    shard: str
    row: int
    label: str | None
    score: float | None
    doubt: float


@dataclass(slots=True)
class HashSample:
    """A sample that grows to its size, and then replaces images by those with lower hashes.

    Attributes:
        size: number of images, of an archive that has as many.
        seen: number of images that were offered.
    """

    size: int
    seen: int = field(default=0, init=False)
    _features: NDArray[np.float32] | None = field(default=None, init=False)
    _images: list[SampledImage] = field(default_factory=list, init=False)
    _ranks: list[int] = field(default_factory=list, init=False)
    _highest: list[tuple[int, int]] = field(default_factory=list, init=False)

    def offer(self, images: Sequence[SampledImage], features: NDArray[np.float32]) -> None:
        """Take images [n] with features [n, D], as far as they belong to the sample."""
        self.seen += len(images)
        if self._features is None:
            self._features = np.empty((self.size, features.shape[1]), np.float32)
        for image, row in zip(images, features, strict=True):
            rank = hash_rank(image.image)
            if len(self._images) < self.size:
                slot = len(self._images)
                self._images.append(image)
                self._ranks.append(rank)
                heapq.heappush(self._highest, (-rank, slot))
            elif self._highest and -rank > self._highest[0][0]:
                slot = self._highest[0][1]
                self._images[slot], self._ranks[slot] = image, rank
                heapq.heapreplace(self._highest, (-rank, slot))
            else:
                continue
            self._features[slot] = row

    def drawn(self) -> tuple[list[SampledImage], NDArray[np.float32]]:
        """Return the images in the order of their hashes, which is random, and their features [N, D] float32."""
        order = sorted(range(len(self._images)), key=lambda slot: (self._ranks[slot], self._images[slot].image))
        features = np.zeros((0, 1), np.float32) if self._features is None else self._features[order]
        return [self._images[slot] for slot in order], features


def hash_rank(key: str) -> int:
    """Return the rank of an image in a random order that depends on its key alone, in [0, 2^64)."""
    data = key.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=b"suggestion").digest(), "big")
