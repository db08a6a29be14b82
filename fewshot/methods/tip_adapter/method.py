"""Tip-Adapter as a method: training-free, hyperparameters from cross-validation inside the shots.

As functions of tensors it is `fewshot.key_value_cache.cache_classifier`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self, get_args

from torch import Tensor

from fewshot.key_value_cache.cache_classifier import (
    CacheClassifier,
    CachePoint,
    cache_grid,
    default_point,
    select_published,
    sweep_cache,
)
from fewshot.key_value_cache.kernel import Cache
from fewshot.key_value_cache.published_settings import BenchmarkDataSet
from fewshot.methods.hyperparameters import Recipe, check_choice, check_number
from fewshot.model_selection.cross_validation import FOLDS, Split, select_point
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class TipAdapter:
    """Hyperparameters of Tip-Adapter; None is chosen inside the shots.

    Attributes:
        recipe: "published" searches alpha and beta on the authors' grid for the data set, as they do: the first of the
            most accurate points. Give it their validation set, too (`evaluate.validation = "full"`).
        data_set: whose published grid is searched with that recipe.
        alpha: weight of the votes, >= 0.
        beta: how fast a vote falls with the distance, >= 0; 0 counts every example the same.
    """

    name: ClassVar[str] = "tip_adapter"
    classifier_type: ClassVar[type[CacheClassifier]] = CacheClassifier
    folds: ClassVar[int] = FOLDS

    recipe: Recipe = "default"
    data_set: BenchmarkDataSet = "imagenet"
    alpha: float | None = None
    beta: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_choice("tip_adapter.recipe", self.recipe, get_args(Recipe))
        check_choice("tip_adapter.data_set", self.data_set, get_args(BenchmarkDataSet))
        check_number("tip_adapter.alpha", self.alpha)
        check_number("tip_adapter.beta", self.beta)

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return replace(self, **self._choose(problem, seed=seed)._asdict())

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> CacheClassifier:
        """See `Method.fit`."""
        point, cache = self._choose(problem, seed=seed), Cache.from_problem(problem)
        return CacheClassifier(
            text=problem.class_embeddings,
            keys=cache.keys,
            counts=cache.counts,
            alpha=point.alpha,
            beta=point.beta,
            logit_scale=problem.logit_scale,
        )

    def _choose(self, problem: Problem, *, seed: int) -> CachePoint:
        if self.recipe == "published":
            return select_published(problem, sweep, self.data_set, alpha=self.alpha, beta=self.beta, seed=seed)
        grid = cache_grid(problem, alpha=self.alpha, beta=self.beta)
        default = partial(default_point, alpha=self.alpha, beta=self.beta)
        return select_point(grid, problem, sweep, default=default, seed=seed)


def sweep(split: Split, points: Collection[CachePoint]) -> Iterator[tuple[CachePoint, Tensor]]:
    """Yield the logits of the queries of a split at each point."""
    problem, cache = split.problem, Cache.from_problem(split.problem)
    return sweep_cache(
        split.queries.features,
        problem.class_embeddings,
        cache.keys,
        cache.counts,
        points,
        logit_scale=problem.logit_scale,
    )
