"""Published scores of images of no class, on features alone; the higher, the less like any class.

They are here to be compared with (`python -m tools.unknown_images`); `NearestExample` is what makes a decision.

* nearest_row: of class means, the largest logit (Hendrycks et al. 2022, arXiv 1911.11132); of the examples, the k-th
  nearest neighbour with k = 1 (Sun et al. 2022, arXiv 2204.06507).
* energy: of the same logits (Liu et al. 2020, arXiv 2010.03759).
* mahalanobis: distance to the nearest class mean (Lee et al. 2018, arXiv 1807.03888) in the metric of GDA.
* residual_and_energy: virtual-logit matching (ViM: Wang et al. 2022, arXiv 2203.10807). Features are not those of a
  linear layer, so that the origin is the mean of the examples, and the principal space has half as many dimensions as
  there are examples, which leaves a residual where examples are fewer than channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.gaussian_classes import ClassStatistics, shrunk, within_class_covariance

LEAST_RESIDUAL = 1e-3
"""Least mean residual of the examples that ViM scales by: that of a single example is 0."""


def energy(images: Tensor, means: Tensor, *, logit_scale: float) -> Tensor:
    """Return -log sum_k exp(logit_scale * cosine with mean k), [B]; with means [K, D], unit rows."""
    return -torch.logsumexp(logit_scale * (images @ means.T), dim=1)


def nearest_row(images: Tensor, rows: Tensor) -> Tensor:
    """Return the negated largest cosine with a row: with class means the largest logit, or with examples.

    Args:
        images: [B, D], unit rows.
        rows: [N, D], unit rows.

    Returns:
        [B].
    """
    return -(images @ rows.T).amax(dim=1)


def mahalanobis(images: Tensor, examples: Tensor, labels: Tensor, *, num_classes: int) -> Tensor:
    """Return the squared distance to the nearest class mean in the metric of the shrunk covariance within the classes.

    Args:
        images: [B, D], unit rows.
        examples: [N, D], unit rows.
        labels: [N] int64 in [0, num_classes), each class at least once.
        num_classes: K.

    Returns:
        [B] float64.
    """
    statistics = ClassStatistics.from_views(examples[:, None], labels, num_classes=num_classes)
    covariance, count = within_class_covariance(statistics, images=True)
    root = torch.linalg.cholesky(shrunk(covariance, count, shrinkage=1.0))
    whitened, means = (
        torch.linalg.solve_triangular(root, rows.double().T, upper=False).T for rows in (images, statistics.means)
    )
    squares: Tensor = whitened.square().sum(dim=1)[:, None] + means.square().sum(dim=1) - 2.0 * whitened @ means.T
    return squares.amin(dim=1)


def residual_and_energy(images: Tensor, examples: Tensor, means: Tensor, *, logit_scale: float) -> Tensor:
    """Return the scaled distance from the principal space of the examples, plus the energy.

    Args:
        images: [B, D], unit rows.
        examples: [N, D], unit rows.
        means: [K, D], unit rows.
        logit_scale: of the logits.

    Returns:
        [B].
    """
    origin = examples.mean(dim=0)
    axes = torch.linalg.svd(examples - origin, full_matrices=False).Vh[: max(1, len(examples) // 2)]

    def residual(rows: Tensor) -> Tensor:
        centred = rows - origin
        lengths: Tensor = torch.linalg.vector_norm(centred - centred @ axes.T @ axes, dim=1)
        return lengths

    peak = (logit_scale * examples @ means.T).amax(dim=1).mean()
    scale = peak / residual(examples).mean().clamp_min(LEAST_RESIDUAL)
    return scale * residual(images) + energy(images, means, logit_scale=logit_scale)


def unit_means(examples: Tensor, labels: Tensor, *, num_classes: int) -> Tensor:
    """Return the mean of each class, scaled to unit length, [K, D]; arguments as in `mahalanobis`."""
    return normalize(examples.new_zeros(num_classes, examples.shape[1]).index_add(0, labels, examples), dim=1)
