"""Training-free APE as a method: hyperparameters from cross-validation inside the shots.

d is close to log2 K for every shot (the softmax has no temperature), so gamma mostly multiplies alpha, by
K^(gamma / ln 2): 146 for a thousand classes at gamma 0.5. The grid of alpha is divided by that factor, so that it
spans the same total weight of the cache at every gamma, and gamma only changes the weights of shots.

With `recipe = "published"` channels, lambda and the grid are those of the authors for a data set, alpha is not divided,
and the first of the most accurate points is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import ClassVar, Self, get_args

from fewshot.errors import DataError
from fewshot.key_value_cache.channels import CriterionSource
from fewshot.key_value_cache.grids import alpha_grid, beta_grid, default_alpha, default_beta
from fewshot.key_value_cache.kernel import Cache
from fewshot.key_value_cache.published_settings import (
    ALPHA_STEPS,
    APE_RUNS,
    BETA_STEPS,
    GAMMA_STEPS,
    IMAGENET_GAMMA_STEPS,
    RN50_CHANNELS,
    START_GAMMA,
    TRAINING_BETA,
    BenchmarkDataSet,
    search_axis,
)
from fewshot.methods.ape.classifier import ApeClassifier
from fewshot.methods.ape.functional import ApePoint, refine, sweep
from fewshot.methods.hyperparameters import Recipe, check_choice, check_number
from fewshot.model_selection.cross_validation import FOLDS, select_as_published, select_point
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem

GAMMAS = (0.0, 1.0)
FRACTIONS = (1.0, 0.75, 0.5)
SIMILARITY_WEIGHTS = (0.3, 0.7)
DEFAULT_FRACTION = 1.0
"""With one shot a class, the authors' ablation gains nothing from fewer channels (62.04 against 62.07)."""
DEFAULT_SIMILARITY_WEIGHT = 0.5
MAX_GAMMA = 4.0
"""d is at most 19.93 bits, so exp(gamma d) stays within float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ape:
    """Hyperparameters of training-free APE; None is chosen inside the shots.

    Attributes:
        recipe: "published" takes channels and lambda of the authors for the data set, and searches alpha, beta and
            gamma on their grid. Give it their validation set, too (`evaluate.validation = "full"`).
        data_set: whose published channels, lambda and grid are taken with that recipe.
        alpha: weight of the votes, >= 0.
        beta: how fast a vote falls with the distance, >= 0; 0 counts every example the same.
        gamma: how much more the examples count that the text classifies badly, in [0, 4].
        channel_fraction: share of the channels that are kept, in (0, 1].
        similarity_weight: lambda of the channel criterion, in [0, 1].
        criterion_source: what the inter-class similarity of the criterion is measured on.
        class_mean: average the votes of a class rather than add them, for classes with very different shots.
    """

    name: ClassVar[str] = "ape"
    classifier_type: ClassVar[type[ApeClassifier]] = ApeClassifier
    folds: ClassVar[int] = FOLDS

    recipe: Recipe = "default"
    data_set: BenchmarkDataSet = "imagenet"
    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    channel_fraction: float | None = None
    similarity_weight: float | None = None
    criterion_source: CriterionSource = "text+image"
    class_mean: bool = False

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_choice("ape.recipe", self.recipe, get_args(Recipe))
        check_choice("ape.data_set", self.data_set, get_args(BenchmarkDataSet))
        check_number("ape.alpha", self.alpha)
        check_number("ape.beta", self.beta)
        check_number("ape.gamma", self.gamma, high=MAX_GAMMA)
        check_number("ape.channel_fraction", self.channel_fraction, low=1e-6, high=1.0)
        check_number("ape.similarity_weight", self.similarity_weight, high=1.0)
        check_choice("ape.criterion_source", self.criterion_source, get_args(CriterionSource))
        if not isinstance(self.class_mean, bool):
            raise DataError(f"ape.class_mean must be true or false, got {self.class_mean!r}")

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return replace(self, **self._choose(problem, seed=seed)._asdict())

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> ApeClassifier:
        """See `Method.fit`."""
        point = self._choose(problem, seed=seed)
        refined = refine(
            problem,
            Cache.from_problem(problem),
            fraction=point.channel_fraction,
            similarity_weight=point.similarity_weight,
            source=self.criterion_source,
        )
        return ApeClassifier(
            text=problem.class_embeddings,
            keys=refined.keys,
            counts=refined.counts,
            weights=refined.weights(gamma=point.gamma, class_mean=self.class_mean),
            channels=refined.channels,
            alpha=point.alpha,
            beta=point.beta,
            logit_scale=problem.logit_scale,
        )

    def _choose(self, problem: Problem, *, seed: int) -> ApePoint:
        measure = partial(sweep, source=self.criterion_source, class_mean=self.class_mean)
        if self.recipe == "published":
            start = self._published_start()
            return select_as_published(self._published_grid(), problem, measure, default=lambda _: start, seed=seed)
        return select_point(self._grid(problem), problem, measure, default=self._default, seed=seed)

    def _default(self, problem: Problem) -> ApePoint:
        gamma = _or(self.gamma, 0.0)
        return ApePoint(
            alpha=_scaled(default_alpha(problem), gamma, problem) if self.alpha is None else self.alpha,
            beta=default_beta(problem.support.cache_keys) if self.beta is None else self.beta,
            gamma=gamma,
            channel_fraction=_or(self.channel_fraction, DEFAULT_FRACTION),
            similarity_weight=_or(self.similarity_weight, DEFAULT_SIMILARITY_WEIGHT),
        )

    def _published_start(self) -> ApePoint:
        """Return the authors' initial point, their channels and lambda; what is given is kept."""
        run = APE_RUNS[self.data_set]
        return ApePoint(
            channel_fraction=_or(self.channel_fraction, run.channels / RN50_CHANNELS),
            similarity_weight=_or(self.similarity_weight, run.similarity_weight),
            beta=_or(self.beta, TRAINING_BETA),
            gamma=_or(self.gamma, START_GAMMA),
            alpha=_or(self.alpha, run.start_alpha),
        )

    def _published_grid(self) -> list[ApePoint]:
        """Return the points of the published search in its order: beta outermost, then alpha, then gamma."""
        run, start = APE_RUNS[self.data_set], self._published_start()
        gamma_steps = IMAGENET_GAMMA_STEPS if self.data_set == "imagenet" else GAMMA_STEPS
        betas = search_axis(run.max_beta, steps=BETA_STEPS) if self.beta is None else [self.beta]
        alphas = search_axis(run.max_alpha, steps=ALPHA_STEPS) if self.alpha is None else [self.alpha]
        gammas = search_axis(run.max_gamma, steps=gamma_steps, start=0.0) if self.gamma is None else [self.gamma]
        return [
            start._replace(beta=beta, alpha=alpha, gamma=gamma) for beta, alpha, gamma in product(betas, alphas, gammas)
        ]

    def _grid(self, problem: Problem) -> list[ApePoint]:
        """List the most zero-shot-like points first: by weight of the votes, beta, gamma, then the most channels."""
        alphas = alpha_grid(problem) if self.alpha is None else [self.alpha]
        betas = beta_grid(problem.support.cache_keys) if self.beta is None else [self.beta]
        gammas = GAMMAS if self.gamma is None else [self.gamma]
        return [
            ApePoint(
                alpha=_scaled(alpha, gamma, problem) if self.alpha is None else alpha,
                beta=beta,
                gamma=gamma,
                channel_fraction=fraction,
                similarity_weight=similarity_weight,
            )
            for alpha, beta, gamma, (fraction, similarity_weight) in product(alphas, betas, gammas, self._subspaces())
        ]

    def _subspaces(self) -> list[tuple[float, float]]:
        """Return fractions and lambdas to try; with all channels kept, lambda decides nothing."""
        fractions = FRACTIONS if self.channel_fraction is None else (self.channel_fraction,)
        if self.similarity_weight is not None:
            return [(fraction, self.similarity_weight) for fraction in fractions]
        everything = [(1.0, DEFAULT_SIMILARITY_WEIGHT)] if 1.0 in fractions else []
        return everything + [pair for pair in product(fractions, SIMILARITY_WEIGHTS) if pair[0] < 1.0]


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _scaled(alpha: float, gamma: float, problem: Problem) -> float:
    """Return the alpha that weighs the votes at this gamma as `alpha` does at gamma 0 (see the module)."""
    return float(f"{alpha / problem.num_classes ** (gamma / math.log(2.0)):.3g}")
