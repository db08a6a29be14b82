"""Sufficient statistics of classes that are Gaussians with one covariance: numbers that add up.

They are all that Gaussian discriminant analysis needs of its examples, so that an image or a class is added, or a wrong
label removed, without the other images. Statistics of blocks, made anywhere and in any order, sum to those of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.errors import DataError

BLOCK_BYTES = 64 * 2**20
"""Memory of the float64 rows of one block."""
ROUNDING = 1e-12
"""A scatter below this share of the sum of squares is what rounding leaves of equal rows, and counts as none."""


@dataclass(frozen=True, slots=True)
class ClassStatistics:
    """Sums over the rows of each class and of all classes; a row is a view of an image, scaled to unit length.

    Attributes:
        images: [K] int64, number of images of each class.
        rows: [K] int64, number of rows of each class: images times views.
        sums: [K, D] float64, sum of the rows of each class.
        products: [D, D] float64, sum of the outer products of all rows with themselves.
    """

    images: Tensor
    rows: Tensor
    sums: Tensor
    products: Tensor

    @classmethod
    def empty(cls, *, num_classes: int, dim: int) -> Self:
        """Return the statistics of no images."""
        none = torch.zeros(num_classes, dtype=torch.int64)
        return cls(none, none, *(torch.zeros(n, dim, dtype=torch.float64) for n in (num_classes, dim)))

    @classmethod
    def from_views(cls, views: Tensor, labels: Tensor, *, num_classes: int) -> Self:
        """Compute the statistics of images.

        Args:
            views: [M, V, D], of any length; the last bits depend on their order.
            labels: [M] int64 in [0, num_classes).
            num_classes: K.

        Raises:
            DataError: shapes or labels do not fit.
        """
        statistics = cls.empty(num_classes=num_classes, dim=views.shape[-1])
        _check(statistics, views, labels)
        order = labels.argsort(stable=True)
        for chosen in torch.split(order, max(1, BLOCK_BYTES // max(1, 8 * views[:1].numel()))):
            statistics = statistics.merge(_of_block(views[chosen], labels[chosen], num_classes))
        return statistics

    def add(self, views: Tensor, labels: Tensor) -> Self:
        """Return the statistics with further images; arguments as in `from_views`."""
        return self.merge(self.from_views(views, labels, num_classes=len(self.rows)))

    def remove(self, views: Tensor, labels: Tensor) -> Self:
        """Return the statistics without images that they contain; arguments as in `from_views`.

        Raises:
            DataError: a class has fewer images or rows than are to be removed.
        """
        removed = self.from_views(views, labels, num_classes=len(self.rows))
        if bool((removed.images > self.images).any() or (removed.rows > self.rows).any()):
            label = int(((removed.images > self.images) | (removed.rows > self.rows)).nonzero()[0])
            raise DataError(
                f"cannot remove {int(removed.images[label])} images of class {label}: the statistics contain"
                f" {int(self.images[label])}"
            )
        return type(self)(*(mine - its for mine, its in zip(self._parts(), removed._parts(), strict=True)))

    def merge(self, other: ClassStatistics) -> Self:
        """Return the statistics of both sets of images; a class is the same in both.

        Raises:
            DataError: the numbers of classes or channels differ.
        """
        if self.sums.shape != other.sums.shape:
            raise DataError(
                f"statistics of {list(self.sums.shape)} classes and channels cannot be merged with those of"
                f" {list(other.sums.shape)}"
            )
        return type(self)(*(mine + its for mine, its in zip(self._parts(), other._parts(), strict=True)))

    @property
    def means(self) -> Tensor:
        """[K, D] float64: the mean row of each class; 0 for a class without images."""
        return self.sums / self.rows.clamp(min=1)[:, None]

    @property
    def scatter(self) -> Tensor:
        """[D, D] float64: sum of the outer products of the deviations of all rows from the mean of their class.

        Zeros if all rows of a class are equal, to rounding.
        """
        scatter = self.products - self.means.T @ self.sums
        is_rounding = scatter.trace() <= ROUNDING * self.products.trace()
        return torch.zeros_like(scatter) if is_rounding else (scatter + scatter.T) / 2.0

    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.images, self.rows, self.sums, self.products


def _of_block(views: Tensor, labels: Tensor, num_classes: int) -> ClassStatistics:
    """Compute the statistics of images in the order of their labels."""
    rows = normalize(views.double(), dim=-1)
    images = torch.bincount(labels, minlength=num_classes)
    sums = torch.segment_reduce(rows.sum(dim=1), "sum", lengths=images, axis=0, initial=0.0)
    flat = rows.flatten(0, 1)
    return ClassStatistics(images, images * views.shape[1], sums, flat.T @ flat)


def _check(statistics: ClassStatistics, views: Tensor, labels: Tensor) -> None:
    K = len(statistics.rows)
    if views.ndim != 3 or len(views) != len(labels):
        raise DataError(f"expected views [M, V, D] beside labels [M], got {list(views.shape)} and {list(labels.shape)}")
    if len(labels) and not (0 <= int(labels.min()) and int(labels.max()) < K):
        raise DataError(f"labels must lie in [0, {K}), got labels in [{int(labels.min())}, {int(labels.max())}]")
