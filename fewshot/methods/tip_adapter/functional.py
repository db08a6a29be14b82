"""Tip-Adapter's sweep; the method as functions of tensors is `fewshot.cache_classifier`."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import Tensor

from fewshot.cache import Cache
from fewshot.cache_classifier import Point, sweep_cache
from fewshot.selection import Split


def sweep(split: Split, points: Collection[Point]) -> Iterator[tuple[Point, Tensor]]:
    """Logits of a split's queries at each point."""
    problem, cache = split.problem, Cache.of(split.problem)
    return sweep_cache(
        split.queries.features, problem.text, cache.keys, cache.counts, points, logit_scale=problem.logit_scale
    )
