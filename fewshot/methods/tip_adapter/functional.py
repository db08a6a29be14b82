"""Tip-Adapter's sweep; the method as functions of tensors is `fewshot.key_value_cache.cache_classifier`."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import Tensor

from fewshot.key_value_cache.cache_classifier import CachePoint, sweep_cache
from fewshot.key_value_cache.kernel import Cache
from fewshot.model_selection.cross_validation import Split


def sweep(split: Split, points: Collection[CachePoint]) -> Iterator[tuple[CachePoint, Tensor]]:
    """Logits of a split's queries at each point."""
    problem, cache = split.problem, Cache.from_problem(split.problem)
    return sweep_cache(
        split.queries.features,
        problem.class_embeddings,
        cache.keys,
        cache.counts,
        points,
        logit_scale=problem.logit_scale,
    )
