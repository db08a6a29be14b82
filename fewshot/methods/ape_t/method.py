"""APE-T as a method: one training, and two hyperparameters chosen after it on held-out shots.

The share of channels and lambda are about the medians of the published settings (0.8 of 1024 channels, 0.5), which
differ from set to set; the paper does not report how they were found. With `recipe = "published"` they are those of the
authors for a data set, as are training and search.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, ClassVar, Literal, Self, get_args

from torch import Tensor

from fewshot.key_value_cache.cache_classifier import CachePoint, cache_grid, default_point, published_grid
from fewshot.key_value_cache.cache_training import CacheTrainingSettings
from fewshot.key_value_cache.channels import CriterionSource, criterion_channels
from fewshot.key_value_cache.kernel import Cache
from fewshot.key_value_cache.published_settings import APE_RUNS, RN50_CHANNELS, TRAINING_BETA, BenchmarkDataSet
from fewshot.methods.ape_t.classifier import ApeTClassifier
from fewshot.methods.ape_t.functional import affinity_side, moved_logits, shifts, weighted_votes
from fewshot.methods.ape_t.residual_training import train, train_as_published
from fewshot.methods.hyperparameters import Recipe, check_choice, check_count, check_number, values_for
from fewshot.model_selection.cross_validation import FOLDS, Split, select_as_published, select_point
from fewshot.optimization.training_cache import State, TrainingCache, no_cache, training_key
from fewshot.problem import Problem

AffinityChannels = Literal["all", "selected"]
CHANNEL_FRACTION, SIMILARITY_WEIGHT, PUBLISHED_SIMILARITY_WEIGHT = 0.8, 0.5, 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ApeT:
    """Hyperparameters of APE-T; None is chosen inside the shots.

    Attributes:
        recipe: "published" takes channels and lambda of the authors for the data set, trains as they do (an image's own
            key votes, alpha and beta are theirs, epochs are not filled up), and searches alpha and beta on their grid.
        data_set: whose published settings are taken with that recipe.
        alpha: weight of the votes, >= 0; with 0 only the text and its residuals count.
        beta: how fast a vote falls with the distance, >= 0; 0 counts every example the same.
        channel_fraction: share of the channels that may move, in (0, 1]. Not set: 0.8, or that of the data set.
        similarity_weight: lambda of the channel criterion, in [0, 1]. Not set: 0.5, published 0.2.
        criterion_source: what the inter-class similarity of the criterion is measured on.
        affinity_channels: channels that images are compared on: all (the authors' code) or those kept (their figure).
        learning_rate: peak learning rate of AdamW, along half a cosine. Not set: 1e-3, or that of the data set.
        epochs: passes over the images. Not set: 20, or those published for the data set.
        min_steps: minimum number of steps, if the epochs make fewer; published trainings have none.
        max_steps: maximum number of steps. With 0 it is Tip-Adapter.
    """

    name: ClassVar[str] = "ape_t"
    classifier_type: ClassVar[type[ApeTClassifier]] = ApeTClassifier
    folds: ClassVar[int] = FOLDS

    recipe: Recipe = "default"
    data_set: BenchmarkDataSet = "imagenet"
    alpha: float | None = None
    beta: float | None = None
    channel_fraction: float | None = None
    similarity_weight: float | None = None
    criterion_source: CriterionSource = "text"
    affinity_channels: AffinityChannels = "all"
    learning_rate: float | None = None
    epochs: int | None = None
    min_steps: int = CacheTrainingSettings.min_steps
    max_steps: int = CacheTrainingSettings.max_steps

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_choice("ape_t.recipe", self.recipe, get_args(Recipe))
        check_choice("ape_t.data_set", self.data_set, get_args(BenchmarkDataSet))
        check_number("ape_t.alpha", self.alpha)
        check_number("ape_t.beta", self.beta)
        check_number("ape_t.channel_fraction", self.channel_fraction, low=1e-6, high=1.0)
        check_number("ape_t.similarity_weight", self.similarity_weight, high=1.0)
        check_number("ape_t.learning_rate", self.learning_rate, low=1e-9, high=1.0)
        check_count("ape_t.epochs", self.epochs)
        check_count("ape_t.min_steps", self.min_steps)
        check_count("ape_t.max_steps", self.max_steps)
        check_choice("ape_t.criterion_source", self.criterion_source, get_args(CriterionSource))
        check_choice("ape_t.affinity_channels", self.affinity_channels, get_args(AffinityChannels))

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        point = self._choose(problem, seed=seed, training_cache=training_cache)
        return replace(self, **point._asdict(), **self._settled)

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> ApeTClassifier:
        """See `Method.fit`."""
        point, cache = self._choose(problem, seed=seed, training_cache=training_cache), Cache.from_problem(problem)
        channels, selected = self._channels(problem, cache), self.affinity_channels == "selected"
        learned = self._learned(problem, channels, seed=seed, training_cache=training_cache)
        return ApeTClassifier(
            text=problem.class_embeddings,
            keys=affinity_side(cache.keys, channels, selected=selected),
            counts=cache.counts,
            weights=learned["weights"],
            residual=learned["residual"],
            channels=channels,
            selected=selected,
            alpha=point.alpha,
            beta=point.beta,
            logit_scale=problem.logit_scale,
        )

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """See `TrainedMethod.pretrain_fold`."""
        problem = split.problem
        self._learned(
            problem, self._channels(problem, Cache.from_problem(problem)), seed=seed, training_cache=training_cache
        )

    def _choose(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> CachePoint:
        sweep = partial(self._sweep, seed=seed, training_cache=training_cache)
        if self.recipe == "published":
            run = APE_RUNS[self.data_set]
            start = CachePoint(
                alpha=run.start_alpha if self.alpha is None else self.alpha,
                beta=TRAINING_BETA if self.beta is None else self.beta,
            )
            searched = published_grid(max_alpha=run.max_alpha, max_beta=run.max_beta, alpha=self.alpha, beta=self.beta)
            return select_as_published(searched, problem, sweep, default=lambda _: start, seed=seed)
        grid = cache_grid(problem, alpha=self.alpha, beta=self.beta)
        default = partial(default_point, alpha=self.alpha, beta=self.beta)
        return select_point(grid, problem, sweep, default=default, seed=seed)

    @property
    def _settled(self) -> dict[str, Any]:
        """Values that follow from the recipe, those that are given kept."""
        run = APE_RUNS[self.data_set] if self.recipe == "published" else None
        defaults = {
            "channel_fraction": CHANNEL_FRACTION if run is None else run.trained_channels / RN50_CHANNELS,
            "similarity_weight": SIMILARITY_WEIGHT if run is None else PUBLISHED_SIMILARITY_WEIGHT,
            "learning_rate": CacheTrainingSettings.learning_rate if run is None else run.learning_rate,
            "epochs": CacheTrainingSettings.epochs if run is None else run.epochs,
        }
        return {name: getattr(self, name) if getattr(self, name) is not None else defaults[name] for name in defaults}

    def _sweep(
        self, split: Split, points: Collection[CachePoint], *, seed: int, training_cache: TrainingCache
    ) -> Iterator[tuple[CachePoint, Tensor]]:
        """Yield the logits of the queries of a split at each point: one matrix product, one exp pass for each beta."""
        problem, features = split.problem, split.queries.features
        cache, selected = Cache.from_problem(problem), self.affinity_channels == "selected"
        channels = self._channels(problem, cache)
        learned = self._learned(problem, channels, seed=seed, training_cache=training_cache)
        keys, compared = (affinity_side(rows, channels, selected=selected) for rows in (cache.keys, features))
        moved, cosines = shifts(features, learned["residual"], channels, selected=selected), keys @ compared.T
        for beta, group in groupby(sorted(points, key=lambda point: point.beta), key=lambda point: point.beta):
            votes = weighted_votes(cosines, learned["weights"], cache.counts, beta=beta)
            for point in group:
                yield (
                    point,
                    moved_logits(
                        features,
                        problem.class_embeddings,
                        votes,
                        moved,
                        **point._asdict(),
                        logit_scale=problem.logit_scale,
                    ),
                )

    def _channels(self, problem: Problem, cache: Cache) -> Tensor:
        return criterion_channels(
            problem.class_embeddings,
            cache,
            fraction=self._settled["channel_fraction"],
            similarity_weight=self._settled["similarity_weight"],
            source=self.criterion_source,
        )

    def _learned(self, problem: Problem, channels: Tensor, *, seed: int, training_cache: TrainingCache) -> State:
        rates = {name: self._settled[name] for name in ("learning_rate", "epochs")}
        settings = CacheTrainingSettings(**values_for(CacheTrainingSettings, self) | rates)
        key_settings = {"channels": channels.tolist(), "affinity": self.affinity_channels, **asdict(settings)}
        selected = self.affinity_channels == "selected"
        if self.recipe != "published":
            key = training_key("ape_t", problem, seed=seed, **key_settings)
            return training_cache(
                key, lambda: train(problem, channels, selected=selected, settings=settings, seed=seed)
            )
        run, shots = APE_RUNS[self.data_set], len(problem.support) / max(1, int((problem.counts > 0).sum()))
        alpha, epsilon = run.start_alpha, run.epsilon_for(shots)
        published = partial(train_as_published, problem, channels, settings=settings, alpha=alpha, epsilon=epsilon)
        key = training_key("ape_t_published", problem, seed=seed, **key_settings, alpha=alpha, epsilon=epsilon)
        return training_cache(key, lambda: published(selected=selected, seed=seed))
