"""GDA as functions of tensors: the rows of the examples, and means of classes without any."""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot.gaussian_classes import ClassStatistics, Plane, discriminant, shrunk, within_class_covariance
from fewshot.optimization.content_order import content_digests
from fewshot.problem import Labelled


def distinct(images: Labelled) -> Labelled:
    """Return each labelled image once, by label and content: the repeated shots of a fold are no further data."""
    rows: dict[tuple[int, bytes], int] = {}
    for row, key in enumerate(zip(images.labels.tolist(), content_digests(images), strict=True)):
        rows.setdefault(key, row)
    return images[torch.tensor([rows[key] for key in sorted(rows)], dtype=torch.int64)]


def class_plane(statistics: ClassStatistics, text: Tensor, *, images: bool, shrinkage: float) -> Plane:
    """Return the discriminant of all classes; those without images have the mean that follows from their text.

    Args:
        statistics: of at least one image.
        text: [K, D], unit rows.
        images: see `within_class_covariance`.
        shrinkage: see `shrunk`.
    """
    has_images = statistics.images > 0
    means = with_means_from_text(statistics.means, has_images, text.double())
    covariance, count = within_class_covariance(statistics, images=images)
    return discriminant(means, has_images, shrunk(covariance, count, shrinkage=shrinkage))


def with_means_from_text(means: Tensor, has_images: Tensor, text: Tensor) -> Tensor:
    """Fill in the means of classes without images: m + beta (t_k - t), with m and t the means over the other classes.

    Images and texts lie in different places, so only deviations can be transferred. beta is the least-squares slope of
    the deviations of the other means on those of their texts, at least 0: where names say nothing it is about 0, and
    such a class lies in the middle, where it wins no image that is clearly of another class. Unscaled (beta = 1), texts
    deviate so much further than means that a class without images would never win.

    Args:
        means: [K, D] float64.
        has_images: [K] bool, at least one.
        text: [K, D] float64.
    """
    centre, text_centre = means[has_images].mean(dim=0), text[has_images].mean(dim=0)
    deviations = text - text_centre
    energy = float(deviations[has_images].square().sum())
    covariation = float(((means - centre) * deviations)[has_images].sum())
    slope = max(0.0, covariation / energy) if energy > 0.0 else 0.0
    return torch.where(has_images[:, None], means, centre + slope * deviations)
