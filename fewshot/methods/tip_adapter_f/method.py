"""Tip-Adapter-F (Zhang et al. 2022, arXiv 2207.09519) as a method.

The keys of the cache are trained (`fewshot.key_value_cache.cache_training`, with where it differs from the paper);
alpha and beta are chosen after the training, on held-out shots, with keys trained without them. The authors choose them
on larger sets, and the epoch on the test images; ours is the last, also with `recipe = "published"`, which otherwise
switches our differences off.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self, get_args

from torch import Tensor

from fewshot.key_value_cache.cache_classifier import (
    CacheClassifier,
    CachePoint,
    cache_grid,
    default_point,
    select_published,
    sweep_cache,
)
from fewshot.key_value_cache.cache_training import (
    CacheTrainingSettings,
    train_cache_keys,
    train_cache_keys_as_published,
)
from fewshot.key_value_cache.published_settings import TIP_ADAPTER_RUNS, BenchmarkDataSet
from fewshot.methods.hyperparameters import Recipe, check_choice, check_count, check_number, values_for
from fewshot.model_selection.cross_validation import FOLDS, Split, select_point
from fewshot.optimization.training_cache import TrainingCache, no_cache, training_key
from fewshot.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class TipAdapterF:
    """Hyperparameters of Tip-Adapter-F; None is chosen inside the shots.

    Attributes:
        recipe: "published" trains as the authors do for the data set (an image's own key votes, alpha and beta are
            theirs, epochs are not filled up) and searches alpha and beta on their grid.
        data_set: whose published alpha, epochs and grid are taken with that recipe.
        alpha: weight of the votes, >= 0.
        beta: how fast a vote falls with the distance, >= 0; 0 counts every example the same.
        learning_rate: peak learning rate of AdamW, along half a cosine.
        epochs: passes over the images. Not set: 20, or those published for the data set.
        min_steps: minimum number of steps, if the epochs make fewer; published trainings have none.
        max_steps: maximum number of steps. With 0 it is Tip-Adapter.
    """

    name: ClassVar[str] = "tip_adapter_f"
    classifier_type: ClassVar[type[CacheClassifier]] = CacheClassifier
    folds: ClassVar[int] = FOLDS

    recipe: Recipe = "default"
    data_set: BenchmarkDataSet = "imagenet"
    alpha: float | None = None
    beta: float | None = None
    learning_rate: float = CacheTrainingSettings.learning_rate
    epochs: int | None = None
    min_steps: int = CacheTrainingSettings.min_steps
    max_steps: int = CacheTrainingSettings.max_steps

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_choice("tip_adapter_f.recipe", self.recipe, get_args(Recipe))
        check_choice("tip_adapter_f.data_set", self.data_set, get_args(BenchmarkDataSet))
        check_number("tip_adapter_f.alpha", self.alpha)
        check_number("tip_adapter_f.beta", self.beta)
        check_number("tip_adapter_f.learning_rate", self.learning_rate, low=1e-9, high=1.0)
        check_count("tip_adapter_f.epochs", self.epochs)
        check_count("tip_adapter_f.min_steps", self.min_steps)
        check_count("tip_adapter_f.max_steps", self.max_steps)

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        point = self._choose(problem, seed=seed, training_cache=training_cache)
        return replace(self, **point._asdict(), epochs=self._settings.epochs)

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

        if self.recipe == "published":
            return select_published(problem, sweep, self.data_set, alpha=self.alpha, beta=self.beta, seed=seed)
        grid = cache_grid(problem, alpha=self.alpha, beta=self.beta)
        default = partial(default_point, alpha=self.alpha, beta=self.beta)
        return select_point(grid, problem, sweep, default=default, seed=seed)

    def _keys(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> Tensor:
        settings, name, also = self._settings, "tip_adapter_f", {}
        train = partial(train_cache_keys, problem, settings=settings, seed=seed)
        if self.recipe == "published":
            name, also = "tip_adapter_f_published", {"alpha": TIP_ADAPTER_RUNS[self.data_set].start_alpha}
            train = partial(train_cache_keys_as_published, problem, settings=settings, seed=seed, **also)
        key = training_key(name, problem, seed=seed, **asdict(settings), **also)
        return training_cache(key, lambda: {"keys": train()})["keys"]

    @property
    def _settings(self) -> CacheTrainingSettings:
        published = self.recipe == "published"
        epochs = TIP_ADAPTER_RUNS[self.data_set].epochs if published else CacheTrainingSettings.epochs
        given: dict[str, Any] = values_for(CacheTrainingSettings, self)
        return CacheTrainingSettings(**given | {"epochs": epochs if self.epochs is None else self.epochs})
