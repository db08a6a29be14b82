"""A point for each class: the mean of its examples, its text, or something between."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from fewshot.key_value_cache.kernel import segment_sum
from fewshot.problem import Problem

IMAGE_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 64.0)
"""Weights of the class mean to try beside rows that were learned; 64 leaves nothing of the rows."""
ROWS = 1024


def text_logits(features: Tensor, text: Tensor, *, logit_scale: float) -> Tensor:
    """logit_scale * features @ text.T.

    Args:
        features: [B, D] float32, unit rows.
        text: [K, D] float32, unit rows.
        logit_scale: the backbone's; 100 for CLIP.

    Returns:
        [B, K] float32.
    """
    return logit_scale * (features @ text.T)


def class_means(keys: Tensor, counts: Tensor) -> Tensor:
    """[K, D] float32: the unit mean of each class's keys [M, D], counts [K] of them; 0 for a class without keys."""
    return normalize(segment_sum(keys, counts), dim=1)


def prototypes(keys: Tensor, counts: Tensor, text: Tensor, *, text_weight: float) -> Tensor:
    """norm(mean + text_weight * text) for each class.

    Args:
        keys: [M, D] float32, unit rows, grouped by class.
        counts: [K] int64 with sum M.
        text: [K, D] float32, unit rows.
        text_weight: w >= 0; a class without keys is its text whatever w is.

    Returns:
        [K, D] float32, unit rows.
    """
    means = class_means(keys, counts)
    weights = text.new_full((len(text), 1), text_weight).masked_fill_((counts == 0)[:, None], 1.0)
    return normalize(means + weights * text, dim=1)


def with_means(rows: Tensor, keys: Tensor, counts: Tensor, *, image_weight: float) -> Tensor:
    """norm(rows + image_weight * mean) for each class: what keeps a method from resting on names that say nothing.

    Methods that learn text rows, or features to be compared with text rows, are lost where the names carry no
    information, however well they fit. With the class mean beside the row, its weight chosen inside the shots, they
    contain both their published form (0, exactly) and the nearest class mean.

    Args:
        rows: [K, D] float32, unit rows.
        keys: [M, D] float32, unit rows, grouped by class.
        counts: [K] int64 with sum M.
        image_weight: >= 0; 0 gives `rows` as they are, and so does a class without keys.

    Returns:
        [K, D] float32, unit rows.
    """
    if image_weight == 0.0:
        return rows
    return normalize(rows + image_weight * class_means(keys, counts), dim=1)


def default_text_weight(problem: Problem) -> float:
    """Weight of a class's text beside its mean where nothing can be held out: r, at most a half."""
    trust, _ = text_skill(problem)
    return three_digits(min(0.5, trust))


def default_image_weight(problem: Problem) -> float:
    """Weight of a class's mean beside its text where nothing can be held out: 1 / r, in [2, 64]."""
    trust, _ = text_skill(problem)
    return three_digits(1.0 / min(0.5, max(1.0 / 64.0, trust)))


def text_skill(problem: Problem) -> tuple[float, float]:
    """How much the text knows about the shots.

    Returns:
        r in [0, 1]: zero-shot accuracy on the shots above chance, smoothed by one image at chance; and the spread of
        the text logits over the classes (mean standard deviation). Both 0 without shots.
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
    """Three significant digits: fit for a report, and no rounding error of a sum gets into a hyperparameter."""
    return float(f"{value:.3g}")
