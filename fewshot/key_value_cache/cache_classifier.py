"""Text logits plus the votes of a cache: Tip-Adapter (Zhang et al. 2022, arXiv 2207.09519, eq. 5-6).

    logits = s X W^T + alpha exp(-beta (1 - X F^T)) L

The classifier, the grid of its two hyperparameters alpha and beta, and their sweep, shared by all methods of this form
wherever their keys F come from. Differences from the authors' code: the backbone's scale s replaces the literal 100,
labels are integers and the one-hot matrix L is never built, and alpha = 0 is in the grid.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby, product
from typing import NamedTuple

import torch
from torch import Tensor

from fewshot.key_value_cache.grids import alpha_grid, beta_grid, default_alpha, default_beta
from fewshot.key_value_cache.kernel import MEMORY_BYTES, class_votes, kernel, segment_sum
from fewshot.key_value_cache.published_settings import (
    ALPHA_STEPS,
    BETA_STEPS,
    TIP_ADAPTER_RUNS,
    BenchmarkDataSet,
    search_axis,
)
from fewshot.model_selection.cross_validation import Sweep, select_as_published
from fewshot.problem import Problem
from fewshot.prototypes import text_logits

PUBLISHED_ALPHA, PUBLISHED_BETA = 1.0, 5.5
"""The defaults of Tip-Adapter's paper."""


class CachePoint(NamedTuple):
    """A point of the hyperparameter grid.

    Attributes:
        alpha: weight of the votes, >= 0.
        beta: exponent of the kernel, >= 0; see `kernel`.
    """

    alpha: float
    beta: float


@dataclass(frozen=True, slots=True)
class CacheClassifier:
    """Text embeddings and a cache of keys.

    Attributes:
        text: [K, D] float32, unit rows.
        keys: [M, D] float32, grouped by class; unit rows unless trained.
        counts: [K] int64, number of keys of each class.
        alpha: weight of the votes, >= 0.
        beta: exponent of the kernel, >= 0.
        logit_scale: the backbone's, 100 for CLIP.
    """

    text: Tensor
    keys: Tensor
    counts: Tensor
    alpha: float
    beta: float
    logit_scale: float

    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`."""
        return cache_logits(
            features,
            self.text,
            self.keys,
            self.counts,
            alpha=self.alpha,
            beta=self.beta,
            logit_scale=self.logit_scale,
        )


def cache_logits(
    features: Tensor,
    text: Tensor,
    keys: Tensor,
    counts: Tensor,
    *,
    alpha: float,
    beta: float,
    logit_scale: float,
    memory_bytes: int = MEMORY_BYTES,
) -> Tensor:
    """Return the text logits plus alpha times the votes of the cache.

    Args:
        features: [B, D] float32, unit rows.
        text: [K, D] float32, unit rows.
        keys: [M, D] float32, grouped by class.
        counts: [K] int64 with sum M.
        alpha: weight of the votes, >= 0; 0 is exactly zero-shot.
        beta: exponent of the kernel, >= 0.
        logit_scale: s.
        memory_bytes: memory limit of the affinities.

    Returns:
        [B, K] float32.
    """
    zero_shot = text_logits(features, text, logit_scale=logit_scale)
    if alpha == 0.0:
        return zero_shot
    return zero_shot.add_(class_votes(features, keys, counts, beta=beta, memory_bytes=memory_bytes), alpha=alpha)


def sweep_cache(
    features: Tensor, text: Tensor, keys: Tensor, counts: Tensor, points: Collection[CachePoint], *, logit_scale: float
) -> Iterator[tuple[CachePoint, Tensor]]:
    """Yield each point with its `cache_logits`.

    All points share one matrix product, those of one beta share one pass of exp, and alpha costs one weighted sum.
    """
    zero_shot = text_logits(features, text, logit_scale=logit_scale)
    cosines = keys @ features.T
    for beta, group in groupby(sorted(points, key=lambda point: point.beta), key=lambda point: point.beta):
        votes = segment_sum(kernel(cosines, beta=beta), counts).T
        for point in group:
            yield point, torch.add(zero_shot, votes, alpha=point.alpha)


def cache_grid(problem: Problem, *, alpha: float | None = None, beta: float | None = None) -> list[CachePoint]:
    """Return the points to choose from, the closest to zero-shot first; a given alpha or beta is fixed."""
    alphas = alpha_grid(problem) if alpha is None else [alpha]
    betas = beta_grid(problem.support.cache_keys) if beta is None else [beta]
    return [CachePoint(*values) for values in product(alphas, betas)]


def published_grid(
    *, max_alpha: float, max_beta: float, alpha: float | None = None, beta: float | None = None
) -> list[CachePoint]:
    """Return the points of a published search in its order, beta outermost; a given alpha or beta is fixed."""
    alphas = search_axis(max_alpha, steps=ALPHA_STEPS) if alpha is None else [alpha]
    betas = search_axis(max_beta, steps=BETA_STEPS) if beta is None else [beta]
    return [CachePoint(alpha, beta) for beta, alpha in product(betas, alphas)]


def select_published(
    problem: Problem,
    sweep: Sweep[CachePoint],
    data_set: BenchmarkDataSet,
    *,
    alpha: float | None,
    beta: float | None,
    seed: int,
) -> CachePoint:
    """Choose a point as Tip-Adapter's published search does; the paper's default of 1 and 5.5 without held-out images.

    Args:
        problem: the shots, and the images to choose on.
        sweep: see `fewshot.model_selection.cross_validation.best_point`.
        data_set: whose grid is searched.
        alpha: fixed if given, like `beta`.
        beta: see `alpha`.
        seed: of the folds.
    """
    run = TIP_ADAPTER_RUNS[data_set]
    grid = published_grid(max_alpha=run.max_alpha, max_beta=run.max_beta, alpha=alpha, beta=beta)
    default = CachePoint(
        alpha=PUBLISHED_ALPHA if alpha is None else alpha, beta=PUBLISHED_BETA if beta is None else beta
    )
    return select_as_published(grid, problem, sweep, default=lambda _: default, seed=seed)


def default_point(problem: Problem, *, alpha: float | None = None, beta: float | None = None) -> CachePoint:
    """Return the default point, for problems without held-out images; a given alpha or beta is fixed."""
    return CachePoint(
        alpha=default_alpha(problem) if alpha is None else alpha,
        beta=default_beta(problem.support.cache_keys) if beta is None else beta,
    )
