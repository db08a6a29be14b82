"""Bayes' rule for Gaussian classes with one covariance, which is linear (Wang et al. 2024, arXiv 2402.04087).

    A = S / (N - 1) + shrinkage tr(S) / (N - 1)^2 I        S: scatter within the classes (Kubokawa and Srivastava)
    score_k(x) = (x - m)^T P d_k - 1/2 d_k^T P d_k         d_k = mean_k - m,  P = c A^-1

Where it differs from the authors' code:

* A^-1 is a Cholesky solution in float64, theirs a pseudo-inverse in float32, which hides that a matrix is singular.
* m, the mean of the class means, is subtracted from all. It changes the scores of an image by the same number for every
  class, and so no probability, but keeps them small.
* c is such that the distances of the class means from m are, in the mean, those without P. Their P grows with the
  number of channels and falls with N, so that the best weight beside the text moves by four powers of ten between 1 and
  16 shots. This one is free of both, and P = I remains for classes whose rows are all equal (one view of one image).
* The prior is 1 / K for all classes, as theirs, however many examples a class has: their number is an artefact of
  labelling.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fewshot.gaussian_classes.statistics import ClassStatistics


class Plane(NamedTuple):
    """A linear map onto classes.

    Attributes:
        weight: [K, D] float64.
        bias: [K] float64.
    """

    weight: Tensor
    bias: Tensor


def within_class_covariance(statistics: ClassStatistics, *, images: bool) -> tuple[Tensor, int]:
    """Return the covariance of the rows within their classes, and N, the number of independent rows behind it.

    Args:
        statistics: of at least one image.
        images: whether N is the number of images, or that of rows, as if the views of an image were independent.

    Returns:
        [D, D] float64, and N >= 1. With one view it is the scatter over N - 1.
    """
    rows = int(statistics.rows.sum())
    count = int(statistics.images.sum()) if images else rows
    return statistics.scatter * (count / rows / max(1, count - 1)), count


def shrunk(covariance: Tensor, count: int, *, shrinkage: float) -> Tensor:
    """Add tr(covariance) / (count - 1), times `shrinkage`, to the diagonal; the identity if the covariance is 0."""
    total = covariance.trace()
    if not total > 0.0:
        return torch.eye(len(covariance), dtype=covariance.dtype)
    return covariance + torch.eye(len(covariance), dtype=covariance.dtype) * (shrinkage * total / max(1, count - 1))


def discriminant(means: Tensor, has_images: Tensor, covariance: Tensor) -> Plane:
    """Return the scores of the module as a linear map.

    Args:
        means: [K, D] float64.
        has_images: [K] bool, at least one: classes whose means define m and c.
        covariance: [D, D] float64, positive definite: A.

    Raises:
        torch.linalg.LinAlgError: `covariance` is not positive definite.
    """
    centre = means[has_images].mean(dim=0)
    deviations = means - centre
    solved = torch.cholesky_solve(deviations.T, torch.linalg.cholesky(covariance)).T
    lengths = (deviations * solved).sum(dim=1)
    spread = float(lengths[has_images].sum())
    weight = solved * (float(deviations[has_images].square().sum()) / spread if spread > 0.0 else 1.0)
    return Plane(weight, -weight @ centre - 0.5 * (deviations * weight).sum(dim=1))
