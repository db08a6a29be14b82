"""Nearest class mean (Snell et al. 2017, arXiv 1703.05175, with cosines) as a method.

    P_k = norm(norm(sum of the keys of k) + w W_k)        logits = s X P^T

The text W_k joins the mean with a weight w, which is chosen by cross-validation inside the shots. A class without
examples has only its text, and w = 0 is the plain nearest class mean. It is the simplest method that learns from
examples, and the baseline of all others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor

from fewshot.key_value_cache.kernel import Cache
from fewshot.methods.hyperparameters import check_number
from fewshot.model_selection.cross_validation import FOLDS, Split, select_point
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem
from fewshot.prototypes import default_text_weight, prototypes, text_logits

TEXT_WEIGHTS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Tried in this order; of equals the first, so that a text without effect is left out."""


@dataclass(frozen=True, slots=True)
class NearestMeanClassifier:
    """A prototype for each class.

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
        text_weight: weight of the text of a class beside the mean of its examples, >= 0.
    """

    name: ClassVar[str] = "nearest_mean"
    classifier_type: ClassVar[type[NearestMeanClassifier]] = NearestMeanClassifier
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


def sweep(split: Split, points: Collection[float]) -> Iterator[tuple[float, Tensor]]:
    """Yield the logits of the queries of a split at each text weight."""
    problem, queries = split.problem, split.queries.features
    cache = Cache.from_problem(problem)
    for weight in points:
        means = prototypes(cache.keys, cache.counts, problem.class_embeddings, text_weight=weight)
        yield weight, text_logits(queries, means, logit_scale=problem.logit_scale)
