"""Tip-Adapter as a method: training-free, hyperparameters from cross-validation inside the shots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self

from fewshot.key_value_cache.cache_classifier import CacheClassifier, CachePoint, cache_grid, default_point
from fewshot.key_value_cache.kernel import Cache
from fewshot.method import Need
from fewshot.methods.hyperparameters import check_number
from fewshot.methods.tip_adapter.functional import sweep
from fewshot.model_selection.cross_validation import FOLDS, select_point
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class TipAdapter:
    """Hyperparameters of Tip-Adapter; None is chosen inside the shots.

    Attributes:
        alpha: weight of the votes, >= 0.
        beta: sharpness, >= 0.
    """

    name: ClassVar[str] = "tip_adapter"
    summary: ClassVar[str] = "names plus a vote of the examples; training-free"
    classifier_type: ClassVar[type[CacheClassifier]] = CacheClassifier
    needs: ClassVar[frozenset[Need]] = frozenset()
    folds: ClassVar[int] = FOLDS

    alpha: float | None = None
    beta: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
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
        grid = cache_grid(problem, alpha=self.alpha, beta=self.beta)
        default = partial(default_point, alpha=self.alpha, beta=self.beta)
        return select_point(grid, problem, sweep, default=default, seed=seed)
