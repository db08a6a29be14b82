"""The adapters that SAFE-A can add to SAFE: the abstract of arXiv 2311.04464 has "the existing adapter approach" only.

An adapter learns from a problem with the blended features of SAFE, and its class rows as the text; so those of
Tip-Adapter and CLIP-Adapter are used unchanged. Each has a point (alpha, beta): with alpha = 0 it adds nothing.

* `cache`: the votes of Tip-Adapter; alpha is their weight, beta how fast they fall with the distance.
* `tuned_cache`: likewise, with keys that are trained (Tip-Adapter-F).
* `bottleneck`: the network of CLIP-Adapter; alpha is its share in the feature, beta is not used and 0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from torch import Tensor

from fewshot import feature_adapter as bottleneck
from fewshot.key_value_cache import cache_training as cache_tuning
from fewshot.key_value_cache.cache_classifier import CachePoint, cache_grid, cache_logits, sweep_cache
from fewshot.key_value_cache.kernel import Cache
from fewshot.optimization.training_cache import State
from fewshot.problem import Problem
from fewshot.prototypes import text_logits


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter on the features of SAFE.

    Attributes:
        trained: whether `learn` trains by gradient descent, so that its tensors are worth keeping.
        learn: (problem of blended features, seed, steps at most) -> tensors.
        logits: (features [B, D], class rows [K, D], tensors, point, logit scale) -> [B, K].
        sweep: likewise with many points, each yielded with its logits.
        grid: points to choose from, the most SAFE-like first, scaled to the problem.
    """

    trained: bool
    learn: Callable[[Problem, int, int], State]
    logits: Callable[[Tensor, Tensor, State, CachePoint, float], Tensor]
    sweep: Callable[[Tensor, Tensor, State, Collection[CachePoint], float], Iterator[tuple[CachePoint, Tensor]]]
    grid: Callable[[Problem], list[CachePoint]]


def _cached(problem: Problem, seed: int, steps: int) -> State:
    del seed, steps
    return {"keys": Cache.from_problem(problem).keys, "counts": problem.counts}


def _tuned(problem: Problem, seed: int, steps: int) -> State:
    keys = cache_tuning.train_cache_keys(
        problem, settings=cache_tuning.CacheTrainingSettings(max_steps=steps), seed=seed
    )
    return {"keys": keys, "counts": problem.counts}


def _votes(features: Tensor, rows: Tensor, tensors: State, point: CachePoint, logit_scale: float) -> Tensor:
    keys, counts = tensors["keys"], tensors["counts"]
    return cache_logits(features, rows, keys, counts, alpha=point.alpha, beta=point.beta, logit_scale=logit_scale)


def _swept_votes(
    features: Tensor, rows: Tensor, tensors: State, points: Collection[CachePoint], logit_scale: float
) -> Iterator[tuple[CachePoint, Tensor]]:
    return sweep_cache(features, rows, tensors["keys"], tensors["counts"], points, logit_scale=logit_scale)


def _network(problem: Problem, seed: int, steps: int) -> State:
    return bottleneck.train_bottleneck_on_shots(
        problem, settings=bottleneck.FeatureAdapterSettings(steps=steps), seed=seed
    )


def _behind(features: Tensor, rows: Tensor, tensors: State, point: CachePoint, logit_scale: float) -> Tensor:
    learned = bottleneck.adapted(features, tensors, residual_ratio=point.alpha, second_relu=False)
    return text_logits(learned, rows, logit_scale=logit_scale)


def _swept_behind(
    features: Tensor, rows: Tensor, tensors: State, points: Collection[CachePoint], logit_scale: float
) -> Iterator[tuple[CachePoint, Tensor]]:
    for point in points:
        yield point, _behind(features, rows, tensors, point, logit_scale)


def _ratios(problem: Problem) -> list[CachePoint]:
    del problem
    return [CachePoint(alpha=ratio, beta=0.0) for ratio in bottleneck.RATIOS]


ADAPTERS = {
    "bottleneck": Adapter(trained=True, learn=_network, logits=_behind, sweep=_swept_behind, grid=_ratios),
    "cache": Adapter(trained=False, learn=_cached, logits=_votes, sweep=_swept_votes, grid=cache_grid),
    "tuned_cache": Adapter(trained=True, learn=_tuned, logits=_votes, sweep=_swept_votes, grid=cache_grid),
}
