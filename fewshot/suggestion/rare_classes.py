"""More images of rare classes: how many of each are wanted, and which images are most like them.

If the error of a class falls as one over the number of its labels, the labels that minimise the error of an archive are
in proportion to the square roots of the classes' shares of it (Neyman's allocation). Labels that cover the archive come
in proportion to the shares themselves, so that classes with small shares, or with few labels so far, fall short. What
they lack is hunted: with the most probable images by Bayes' rule for Gaussian classes with one covariance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fewshot.gaussian_classes import ClassStatistics, discriminant, shrunk, within_class_covariance

ROWS = 1024
"""Images that are scored at a time."""
MOST_HUNTED = 0.5
"""Share of all suggestions: as many rest on what is known about classes as on nothing but the images."""


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Images with labels.

    Attributes:
        features: [L, D] float32, unit rows.
        labels: [L] int64 in [0, K); -1 for images that are of no class, or whose class is not known.
        num_classes: K.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    num_classes: int

    def __len__(self) -> int:
        """L."""
        return len(self.labels)

    @property
    def counts(self) -> NDArray[np.int64]:
        """[K], the number of labelled images of each class."""
        return np.bincount(self.labels[self.labels >= 0], minlength=self.num_classes)


@dataclass(frozen=True, slots=True)
class Leaders:
    """The most probable class of each of N images.

    Attributes:
        labels: [N] int64.
        leads: [N] float32 >= 0, over the second class, in units of the discriminant.
    """

    labels: NDArray[np.int64]
    leads: NDArray[np.float32]


def hunting_quota(shares: NDArray[np.float64], labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return how many images of each class to hunt for.

    Args:
        shares: [K], of the archive, as they are predicted, with sum 1.
        labels: [K], number of labels of each class.
        count: of new labels.

    Returns:
        [K], with a sum of at most `count` * `MOST_HUNTED`; 0 for classes without a label, of which nothing is known.
    """
    roots = np.sqrt(shares)
    total = labels.sum() + count
    wanted = total * roots / max(roots.sum(), 1e-12)
    missing = np.where(labels > 0, wanted - labels - count * shares, 0.0)
    missing = np.maximum(missing, 0.0)
    most = int(count * MOST_HUNTED)
    if missing.sum() > most:
        missing *= most / missing.sum()
    return np.floor(missing + 1e-9).astype(np.int64)


def leaders(features: NDArray[np.float32], labelled: LabelledRows) -> Leaders | None:
    """Find the most probable class of images among those with a label.

    Args:
        features: [N, D] float32, unit rows.
        labelled: images with labels.

    Returns:
        None if fewer than two classes have a label.
    """
    is_known = labelled.labels >= 0
    has_images = torch.from_numpy(labelled.counts > 0)
    if int(has_images.sum()) < 2:
        return None
    statistics = ClassStatistics.from_views(
        torch.from_numpy(labelled.features[is_known])[:, None],
        torch.from_numpy(labelled.labels[is_known]),
        num_classes=labelled.num_classes,
    )
    covariance, rows = within_class_covariance(statistics, images=True)
    plane = discriminant(statistics.means, has_images, shrunk(covariance, rows, shrinkage=1.0))
    known = has_images.nonzero().flatten()
    weight, bias = plane.weight[known].float().T, plane.bias[known].float()
    best = [torch.addmm(bias, part, weight).topk(2, dim=1) for part in torch.split(torch.from_numpy(features), ROWS)]
    values, indices = (torch.cat([getattr(part, name) for part in best]) for name in ("values", "indices"))
    return Leaders(known[indices[:, 0]].numpy(), (values[:, 0] - values[:, 1]).numpy())
