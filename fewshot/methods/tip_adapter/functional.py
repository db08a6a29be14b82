"""Tip-Adapter (Zhang et al. 2022, arXiv 2207.09519, eq. 5-6) as functions of tensors.

    logits = s X W^T + alpha exp(-beta (1 - X F^T)) L

Where we differ from the authors' code: the backbone's scale s replaces the literal 100, labels are integers and L is
never made, and alpha = 0 is in the grid.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from fewshot.cache import MEMORY_BYTES, Cache, class_votes, kernel, segment_sum
from fewshot.selection import Split
from fewshot.text_logits import text_logits


class Point(NamedTuple):
    """A point of the grid."""

    alpha: float
    beta: float


def tip_logits(
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
    """Text logits plus alpha times the votes of the cache.

    Args:
        features: [B, D] float32, unit rows.
        text: [K, D] float32, unit rows.
        keys: [M, D] float32, unit rows, grouped by class.
        counts: [K] int64 with sum M.
        alpha: weight of the votes, >= 0; 0 is exactly zero-shot.
        beta: sharpness, >= 0.
        logit_scale: s.
        memory_bytes: budget of the affinities.

    Returns:
        [B, K] float32.
    """
    zero_shot = text_logits(features, text, logit_scale=logit_scale)
    if alpha == 0.0:
        return zero_shot
    return zero_shot.add_(class_votes(features, keys, counts, beta=beta, memory_bytes=memory_bytes), alpha=alpha)


def sweep(split: Split, points: Collection[Point]) -> Iterator[tuple[Point, Tensor]]:
    """Logits of a split's queries at each point: one matrix product, one exp pass for each beta, alpha an axpy."""
    problem, queries = split.problem, split.queries.features
    cache = Cache.of(problem)
    zero_shot = text_logits(queries, problem.text, logit_scale=problem.logit_scale)
    cosines = cache.keys @ queries.T
    for beta, group in groupby(sorted(points, key=lambda point: point.beta), key=lambda point: point.beta):
        votes = segment_sum(kernel(cosines, beta=beta), cache.counts).T
        for point in group:
            yield point, torch.add(zero_shot, votes, alpha=point.alpha)
