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
distances of theirs are not exchangeable with those of images. docs/evaluation.md says what that is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.conformal import rejected_ranks
from fewshot.optimization.content_order import by_content
from fewshot.problem import Labelled

TILE_ROWS = 1024
"""Rows of a matrix product: a fixed number, as it may decide the last bits of a cosine."""
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
        """Return the examples; their labels are not used, and their order does not matter."""
        features = normalize(images.views[by_content(images), 0].double(), dim=1)
        scores = torch.full((len(features),), -1.0, dtype=torch.float64)
        for start in range(0, len(features), TILE_ROWS):
            tile = _cosines(features[start : start + TILE_ROWS], features)
            rows = torch.arange(len(tile))
            tile[rows, start + rows] = -1.0
            scores[start : start + TILE_ROWS] = tile.amax(dim=1)
        return cls(features, scores.sort().values)

    def __len__(self) -> int:
        """N."""
        return len(self.features)

    def score(self, images: Tensor) -> Tensor:
        """Return the largest cosine with an example; a low one speaks against all classes.

        Args:
            images: [B, D], unit rows.

        Returns:
            [B] float64 in [-1, 1]; -1 without examples. A row depends on that row of `images` only.
        """
        if not len(self):
            return torch.full((len(images),), -1.0, dtype=torch.float64)
        tiles = [_cosines(tile.double(), self.features).amax(dim=1) for tile in torch.split(images, TILE_ROWS)]
        return torch.cat(tiles)

    def ranks(self, images: Tensor) -> Tensor:
        """Return the rank of each image among itself and the examples, [B] int64 in [1, N + 1]; see the module.

        Args:
            images: [B, D], unit rows.
        """
        return 1 + torch.searchsorted(self.scores, self.score(images) + TIE, right=True)

    def unknown(self, images: Tensor, *, lost: float) -> Tensor:
        """Return which images are of none of the classes, [B] bool.

        Args:
            images: [B, D], unit rows.
            lost: largest share of images of the classes that may be called unknown, in (0, 1). Below 1 / (N + 1), no
                image is.

        Raises:
            DataError: `lost` is out of range.
        """
        return self.ranks(images) <= rejected_ranks(len(self), share=lost)


def _cosines(rows: Tensor, features: Tensor) -> Tensor:
    """Return the cosines of at most `TILE_ROWS` rows with all features, by a product of a fixed shape."""
    tile = rows.new_zeros(TILE_ROWS, rows.shape[1])
    tile[: len(rows)] = rows
    return (tile @ features.T)[: len(rows)]
