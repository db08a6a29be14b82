"""Tip-Adapter-F (Zhang et al. 2022, arXiv 2207.09519) as a method.

The keys of the cache are trained (`fewshot.key_value_cache.cache_training`, with where it differs from the paper);
alpha and beta are chosen after the training, on held-out shots, with keys trained without them. The authors choose them
on larger sets, and the epoch on the test images; ours is the last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import ClassVar, Self

from torch import Tensor

from fewshot.key_value_cache.cache_classifier import CacheClassifier, CachePoint, cache_grid, default_point, sweep_cache
from fewshot.key_value_cache.cache_training import CacheTrainingSettings, train_cache_keys
from fewshot.methods.hyperparameters import check_number, values_for
from fewshot.model_selection.cross_validation import FOLDS, Split, select_point
from fewshot.optimization.training_cache import TrainingCache, no_cache, training_key
from fewshot.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class TipAdapterF:
    """Hyperparameters of Tip-Adapter-F; None is chosen inside the shots.

    Attributes:
        alpha: weight of the votes, >= 0.
        beta: how fast a vote falls with the distance, >= 0; 0 counts every example the same.
        learning_rate, epochs, min_steps, max_steps: see
            `fewshot.key_value_cache.cache_training.CacheTrainingSettings`. With `max_steps = 0` it is Tip-Adapter.
    """

    name: ClassVar[str] = "tip_adapter_f"
    classifier_type: ClassVar[type[CacheClassifier]] = CacheClassifier
    folds: ClassVar[int] = FOLDS

    alpha: float | None = None
    beta: float | None = None
    learning_rate: float = CacheTrainingSettings.learning_rate
    epochs: int = CacheTrainingSettings.epochs
    min_steps: int = CacheTrainingSettings.min_steps
    max_steps: int = CacheTrainingSettings.max_steps

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_number("tip_adapter_f.alpha", self.alpha)
        check_number("tip_adapter_f.beta", self.beta)
        check_number("tip_adapter_f.learning_rate", self.learning_rate, low=1e-9, high=1.0)
        check_number("tip_adapter_f.epochs", self.epochs)
        check_number("tip_adapter_f.min_steps", self.min_steps)
        check_number("tip_adapter_f.max_steps", self.max_steps)

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return replace(self, **self._choose(problem, seed=seed, training_cache=training_cache)._asdict())

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> CacheClassifier:
        """See `Method.fit`."""
        point = self._choose(problem, seed=seed, training_cache=training_cache)
        return CacheClassifier(
            text=problem.class_embeddings,
            keys=self._keys(problem, seed=seed, training_cache=training_cache),
            counts=problem.counts,
            alpha=point.alpha,
            beta=point.beta,
            logit_scale=problem.logit_scale,
        )

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """See `TrainedMethod.pretrain_fold`."""
        self._keys(split.problem, seed=seed, training_cache=training_cache)

    def _choose(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> CachePoint:
        def sweep(split: Split, points: Collection[CachePoint]) -> Iterator[tuple[CachePoint, Tensor]]:
            learned = split.problem
            keys = self._keys(learned, seed=seed, training_cache=training_cache)
            features = split.queries.features
            return sweep_cache(
                features, learned.class_embeddings, keys, learned.counts, points, logit_scale=learned.logit_scale
            )

        grid = cache_grid(problem, alpha=self.alpha, beta=self.beta)
        default = partial(default_point, alpha=self.alpha, beta=self.beta)
        return select_point(grid, problem, sweep, default=default, seed=seed)

    def _keys(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> Tensor:
        settings = CacheTrainingSettings(**values_for(CacheTrainingSettings, self))
        key = training_key("tip_adapter_f", problem, seed=seed, **asdict(settings))
        return training_cache(key, lambda: {"keys": train_cache_keys(problem, settings=settings, seed=seed)})["keys"]
