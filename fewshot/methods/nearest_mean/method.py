"""Nearest class mean as a method: one hyperparameter, from cross-validation inside the shots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor

from fewshot.key_value_cache.kernel import Cache
from fewshot.method import Need
from fewshot.methods.hyperparameters import check_number
from fewshot.methods.nearest_mean.functional import sweep
from fewshot.model_selection.cross_validation import FOLDS, select_point
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem
from fewshot.prototypes import default_text_weight, prototypes, text_logits

TEXT_WEIGHTS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Tried in this order; of equals the first, so that a text that does not help is left out."""


@dataclass(frozen=True, slots=True)
class NearestMeanClassifier:
    """A point for each class.

    Attributes:
        prototypes: [K, D] float32, unit rows.
        logit_scale: the backbone's.
    """

    prototypes: Tensor
    logit_scale: float

    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`."""
        return text_logits(features, self.prototypes, logit_scale=self.logit_scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestMean:
    """Hyperparameters of nearest class mean; None is chosen inside the shots.

    Attributes:
        text_weight: weight of a class's text beside the mean of its examples, >= 0.
    """

    name: ClassVar[str] = "nearest_mean"
    summary: ClassVar[str] = "the class whose mean example (and name) is nearest; training-free"
    classifier_type: ClassVar[type[NearestMeanClassifier]] = NearestMeanClassifier
    needs: ClassVar[frozenset[Need]] = frozenset()
    folds: ClassVar[int] = FOLDS

    text_weight: float | None = None

    def __post_init__(self) -> None:
        """Check the range.

        Raises:
            DataError: the value is out of its range.
        """
        check_number("nearest_mean.text_weight", self.text_weight)

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return replace(self, text_weight=self._choose(problem, seed=seed))

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> NearestMeanClassifier:
        """See `Method.fit`."""
        cache, weight = Cache.from_problem(problem), self._choose(problem, seed=seed)
        points = prototypes(cache.keys, cache.counts, problem.class_embeddings, text_weight=weight)
        return NearestMeanClassifier(points, problem.logit_scale)

    def _choose(self, problem: Problem, *, seed: int) -> float:
        weights = TEXT_WEIGHTS if self.text_weight is None else (self.text_weight,)
        return select_point(weights, problem, sweep, default=default_text_weight, seed=seed)
