"""APE-T as a method: one training, and two hyperparameters chosen after it on held-out shots.

The share of channels and lambda are about the medians of the published settings (0.8 of 1024 channels, 0.5), which
differ from set to set; the paper does not report how they were found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from typing import ClassVar, Literal, Self, get_args

from torch import Tensor

from fewshot.key_value_cache.cache_classifier import CachePoint, cache_grid, default_point
from fewshot.key_value_cache.cache_training import CacheTrainingSettings
from fewshot.key_value_cache.channels import CriterionSource, criterion_channels
from fewshot.key_value_cache.kernel import Cache
from fewshot.methods.ape_t.classifier import ApeTClassifier
from fewshot.methods.ape_t.functional import affinity_side, moved_logits, shifts, weighted_votes
from fewshot.methods.ape_t.residual_training import train
from fewshot.methods.hyperparameters import check_choice, check_number, values_for
from fewshot.model_selection.cross_validation import FOLDS, Split, select_point
from fewshot.optimization.training_cache import State, TrainingCache, no_cache, training_key
from fewshot.problem import Problem

AffinityChannels = Literal["all", "selected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApeT:
    """Hyperparameters of APE-T; None is chosen inside the shots.

    Attributes:
        alpha: weight of the votes, >= 0; with 0 only the text and its residuals count.
        beta: how fast a vote falls with the distance, >= 0; 0 counts every example the same.
        channel_fraction: share of the channels that may move, in (0, 1].
        similarity_weight: lambda of the channel criterion, in [0, 1].
        criterion_source: what the inter-class similarity of the criterion is measured on.
        affinity_channels: channels that images are compared on: all (the authors' code) or those kept (their figure).
        learning_rate, epochs, min_steps, max_steps: see `fewshot.key_value_cache.cache_training.CacheTrainingSettings`.
            With `max_steps = 0` it is Tip-Adapter.
    """

    name: ClassVar[str] = "ape_t"
    classifier_type: ClassVar[type[ApeTClassifier]] = ApeTClassifier
    folds: ClassVar[int] = FOLDS

    alpha: float | None = None
    beta: float | None = None
    channel_fraction: float = 0.8
    similarity_weight: float = 0.5
    criterion_source: CriterionSource = "text"
    affinity_channels: AffinityChannels = "all"
    learning_rate: float = CacheTrainingSettings.learning_rate
    epochs: int = CacheTrainingSettings.epochs
    min_steps: int = CacheTrainingSettings.min_steps
    max_steps: int = CacheTrainingSettings.max_steps

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_number("ape_t.alpha", self.alpha)
        check_number("ape_t.beta", self.beta)
        check_number("ape_t.channel_fraction", self.channel_fraction, low=1e-6, high=1.0)
        check_number("ape_t.similarity_weight", self.similarity_weight, high=1.0)
        check_number("ape_t.learning_rate", self.learning_rate, low=1e-9, high=1.0)
        check_number("ape_t.epochs", self.epochs)
        check_number("ape_t.min_steps", self.min_steps)
        check_number("ape_t.max_steps", self.max_steps)
        check_choice("ape_t.criterion_source", self.criterion_source, get_args(CriterionSource))
        check_choice("ape_t.affinity_channels", self.affinity_channels, get_args(AffinityChannels))

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return replace(self, **self._choose(problem, seed=seed, training_cache=training_cache)._asdict())

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
        grid = cache_grid(problem, alpha=self.alpha, beta=self.beta)
        default = partial(default_point, alpha=self.alpha, beta=self.beta)
        return select_point(
            grid, problem, partial(self._sweep, seed=seed, training_cache=training_cache), default=default, seed=seed
        )

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
            fraction=self.channel_fraction,
            similarity_weight=self.similarity_weight,
            source=self.criterion_source,
        )

    def _learned(self, problem: Problem, channels: Tensor, *, seed: int, training_cache: TrainingCache) -> State:
        settings = CacheTrainingSettings(**values_for(CacheTrainingSettings, self))
        key_settings = {"channels": channels.tolist(), "affinity": self.affinity_channels, **asdict(settings)}
        selected = self.affinity_channels == "selected"
        return training_cache(
            training_key("ape_t", problem, seed=seed, **key_settings),
            lambda: train(problem, channels, selected=selected, settings=settings, seed=seed),
        )
