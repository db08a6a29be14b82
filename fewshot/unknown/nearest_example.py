"""Is an image of any of the classes? A conformal test on the cosine with the nearest example (kNN with k = 1).

The score of an image among N examples is the largest cosine with one of them; the score of an example is its largest
cosine with another one or with the image. If the image and the examples are exchangeable, its rank among these N + 1
scores is equally likely to be any of 1 ... N + 1 (with equal scores, higher). So calling the lowest `lost` * (N + 1)
ranks unknown loses at most the share `lost` of the images of the classes.

The cosine of an example with the image is never above the image's own score. So the rank is 1 plus the number of
examples whose largest cosine with another *example* is not above the image's score: full conformal prediction here is a
threshold on leave-one-out scores, found once, and an image costs O(N D).

Examples are mostly drawn class by class, and images are not. With S examples of each class, an example has S - 1 others
of its class and an image S, so that fewer images are lost than stated. Examples that are nearly equal (frames of one
film) err the other way: the others then seem far away.

Why not the distance in the metric of `fewshot.gaussian_classes`: it is fitted to the examples, so that leave-one-out
distances of theirs are not exchangeable with those of images. docs/certainty.md says what that is worth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.conformal import rejected_ranks
from fewshot.optimization.content_order import by_content
from fewshot.problem import Labelled

TILE_ROWS, TILE_EXAMPLES = 256, 4096
"""Images and examples of a matrix product: the number of images is fixed, as it may decide last bits of a cosine."""
TIE = 1e-10
"""Cosines that differ by less are those of equal images."""


@dataclass(frozen=True, slots=True)
class NearestExample:
    """Examples, and how close each of them is to another.

    Attributes:
        features: [N, D] float64, unit rows.
        scores: [N] float64 in ascending order: largest cosine of each example with another one; -1 for a single one.
    """

    features: Tensor
    scores: Tensor

    @classmethod
    def from_images(cls, images: Labelled) -> Self:
        """Return the examples; their labels are not used, their order does not matter, and equal ones count once."""
        return cls.from_rows(different_rows(images))

    @classmethod
    def from_rows(cls, rows: Tensor) -> Self:
        """Return the examples with these features, [N, D] of any length."""
        features = normalize(rows.double(), dim=1)
        scores = [
            _largest_cosines(tile, features, without=start)
            for start, tile in zip(range(0, len(features), TILE_ROWS), torch.split(features, TILE_ROWS), strict=False)
        ]
        return cls(features, torch.cat([features.new_zeros(0), *scores]).sort().values)

    def to(self, device: torch.device | str) -> Self:
        """Return a copy on another device."""
        return replace(self, features=self.features.to(device), scores=self.scores.to(device))

    def __len__(self) -> int:
        """N."""
        return len(self.features)

    def score(self, images: Tensor) -> Tensor:
        """Return the largest cosine with an example; a low one speaks against all classes.

        Args:
            images: [B, D] of any length, on any device.

        Returns:
            [B] float64 in [-1, 1], on the device of the examples; -1 without examples. A row depends on that row of
            `images` only.
        """
        tiles = [self.features.new_zeros(0)]
        for tile in torch.split(images, TILE_ROWS) if len(images) else ():
            rows = normalize(tile.to(self.features.device, torch.float64), dim=1)
            tiles.append(_largest_cosines(rows, self.features))
        return torch.cat(tiles)

    def ranks(self, images: Tensor) -> Tensor:
        """Return the rank of each image among itself and the examples, [B] int64 in [1, N + 1]; see the module.

        Args:
            images: [B, D].
        """
        return 1 + torch.searchsorted(self.scores, self.score(images) + TIE, right=True)

    def unknown(self, images: Tensor, *, lost: float) -> Tensor:
        """Return which images are of none of the classes, [B] bool.

        Args:
            images: [B, D].
            lost: largest share of images of the classes that may be called unknown, in (0, 1). Below 1 / (N + 1), no
                image is.

        Raises:
            DataError: `lost` is out of range.
        """
        return self.ranks(images) <= rejected_ranks(len(self), share=lost)


def different_rows(images: Labelled) -> Tensor:
    """Return the features of images as they are, [N, D], in the order of their content; those of equal images once."""
    first = Labelled(images.views[:, :1], images.labels)
    rows = first.views[by_content(first), 0]
    is_new = torch.ones(len(rows), dtype=torch.bool)
    is_new[1:] = (rows[1:] != rows[:-1]).any(dim=1)
    return rows[is_new]


def _largest_cosines(rows: Tensor, features: Tensor, *, without: int | None = None) -> Tensor:
    """Return the largest cosine of each of at most `TILE_ROWS` unit rows with one of the features, [B]; -1 without any.

    Args:
        rows: [B, D].
        features: [N, D].
        without: the rows are the features from this one on, and none is compared with itself.
    """
    tile = rows.new_zeros(TILE_ROWS, rows.shape[1])
    tile[: len(rows)] = rows
    largest = rows.new_full((TILE_ROWS,), -1.0)
    for start, block in zip(range(0, len(features), TILE_EXAMPLES), torch.split(features, TILE_EXAMPLES), strict=False):
        cosines = tile @ block.T
        if without is not None:
            cosines.diagonal(without - start)[: len(rows)] = -1.0
        largest = torch.maximum(largest, cosines.amax(dim=1))
    return largest[: len(rows)]
