"""Class prototypes: a class's text embedding, the mean of its shots, or a weighted sum of both.

The weights are chosen on held-out shots or, without any, derived from the accuracy of zero-shot CLIP (Radford et al.
2021, arXiv 2103.00020) on the shots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.key_value_cache.kernel import segment_sum
from fewshot.problem import Problem

IMAGE_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 64.0)
"""Weights of the class mean to try beside trained prototypes; 64 leaves practically nothing of the prototypes."""
ROWS = 1024
"""Shots in one matrix product."""


@dataclass(frozen=True, slots=True)
class LinearClassifier:
    """A linear map: a prototype of any length for each class, and its bias.

    Attributes:
        weight: [K, D] float32.
        bias: [K] float32.
    """

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`."""
        return torch.addmm(self.bias, features, self.weight.T)


def text_logits(features: Tensor, text: Tensor, *, logit_scale: float) -> Tensor:
    """Return the logits of zero-shot CLIP, the term to which every adapter adds: logit_scale * features @ text.T.

    Args:
        features: [B, D] float32, unit rows.
        text: [K, D] float32, unit rows.
        logit_scale: the backbone's; 100 for CLIP.

    Returns:
        [B, K] float32.
    """
    return logit_scale * (features @ text.T)


def class_means(keys: Tensor, counts: Tensor) -> Tensor:
    """Return the normalised mean of each class's keys.

    Args:
        keys: [M, D] float32, unit rows, grouped by class.
        counts: [K] int64 with sum M.

    Returns:
        [K, D] float32: unit rows; 0 for a class without keys.
    """
    return normalize(segment_sum(keys, counts), dim=1)


def prototypes(keys: Tensor, counts: Tensor, text: Tensor, *, text_weight: float) -> Tensor:
    """Return norm(mean + text_weight * text) for each class.

    Args:
        keys: [M, D] float32, unit rows, grouped by class.
        counts: [K] int64 with sum M.
        text: [K, D] float32, unit rows.
        text_weight: >= 0; the prototype of a class without keys is its text for any weight.

    Returns:
        [K, D] float32, unit rows.
    """
    means = class_means(keys, counts)
    weights = text.new_full((len(text), 1), text_weight).masked_fill_((counts == 0)[:, None], 1.0)
    return normalize(means + weights * text, dim=1)


def with_means(rows: Tensor, keys: Tensor, counts: Tensor, *, image_weight: float) -> Tensor:
    """Return norm(rows + image_weight * mean) for each class.

    Methods that train text embeddings, or features to be compared with them, fail where class names carry no
    information, however well they fit. With the class mean added, its weight chosen inside the shots, they contain both
    their published form (weight 0, exactly) and the nearest class mean.

    Args:
        rows: [K, D] float32, unit rows.
        keys: [M, D] float32, unit rows, grouped by class.
        counts: [K] int64 with sum M.
        image_weight: >= 0; 0 returns `rows` unchanged. The row of a class without keys is unchanged, too.

    Returns:
        [K, D] float32, unit rows.
    """
    if image_weight == 0.0:
        return rows
    return normalize(rows + image_weight * class_means(keys, counts), dim=1)


def default_text_weight(problem: Problem) -> float:
    """Return the default weight of a class's text beside its mean: r of `text_skill`, at most 0.5."""
    skill, _ = text_skill(problem)
    return three_digits(min(0.5, skill))


def default_image_weight(problem: Problem) -> float:
    """Return the default weight of a class's mean beside its text: 1 / r of `text_skill`, in [2, 64]."""
    skill, _ = text_skill(problem)
    return three_digits(1.0 / min(0.5, max(1.0 / 64.0, skill)))


def text_skill(problem: Problem) -> tuple[float, float]:
    """Measure zero-shot classification of the shots.

    Returns:
        r in [0, 1], the zero-shot accuracy on the shots above chance, smoothed by one image at chance; and the spread
        of the text logits over the classes (mean standard deviation). Both are 0 without shots.
    """
    M = len(problem.support)
    hits = spread = 0.0
    features, labels = problem.support.features, problem.support.labels
    for rows in (slice(start, start + ROWS) for start in range(0, M, ROWS)):
        logits = text_logits(features[rows], problem.class_embeddings, logit_scale=problem.logit_scale)
        hits += float((logits.argmax(dim=1) == labels[rows]).sum())
        spread += float(logits.double().std(dim=1, correction=0).sum()) / M
    chance = 1.0 / problem.num_classes
    return max(0.0, ((hits + chance) / (M + 1.0) - chance) / (1.0 - chance)), spread


def three_digits(value: float) -> float:
    """Round to three significant digits: for reports, and to keep rounding errors of sums out of hyperparameters."""
    return float(f"{value:.3g}")
