"""Tip-Adapter as a method: training-free, hyperparameters from cross-validation inside the shots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar, Self

from torch import Tensor

from fewshot.cache import Cache
from fewshot.memo import Memo, forget
from fewshot.methods.base import Need
from fewshot.methods.hyperparameters import check_number
from fewshot.methods.tip_adapter.functional import Point, sweep, tip_logits
from fewshot.problem import Problem
from fewshot.selection import FOLDS, choose
from fewshot.strength import alpha_grid, beta_grid, default_alpha, default_beta


@dataclass(frozen=True, slots=True)
class TipAdapterClassifier:
    """Text prototypes and the cache.

    Attributes:
        text: [K, D] float32, unit rows.
        keys: [M, D] float32, unit rows, grouped by class.
        counts: [K] int64, keys of each class.
        alpha: weight of the votes.
        beta: sharpness.
        logit_scale: the backbone's.
    """

    text: Tensor
    keys: Tensor
    counts: Tensor
    alpha: float
    beta: float
    logit_scale: float

    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`."""
        return tip_logits(
            features,
            self.text,
            self.keys,
            self.counts,
            alpha=self.alpha,
            beta=self.beta,
            logit_scale=self.logit_scale,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TipAdapter:
    """Hyperparameters of Tip-Adapter; None is chosen inside the shots.

    Attributes:
        alpha: weight of the votes, >= 0.
        beta: sharpness, >= 0.
    """

    name: ClassVar[str] = "tip_adapter"
    summary: ClassVar[str] = "names plus a vote of the examples; training-free"
    classifier_type: ClassVar[type[TipAdapterClassifier]] = TipAdapterClassifier
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

    def select(self, problem: Problem, *, seed: int, memo: Memo = forget) -> Self:
        """See `Method.select`."""
        return replace(self, **self._choose(problem, seed=seed)._asdict())

    def fit(self, problem: Problem, *, seed: int, memo: Memo = forget) -> TipAdapterClassifier:
        """See `Method.fit`."""
        point, cache = self._choose(problem, seed=seed), Cache.of(problem)
        return TipAdapterClassifier(
            text=problem.text,
            keys=cache.keys,
            counts=cache.counts,
            alpha=point.alpha,
            beta=point.beta,
            logit_scale=problem.logit_scale,
        )

    def _choose(self, problem: Problem, *, seed: int) -> Point:
        return choose(self._grid(problem), problem, sweep, default=self._default, seed=seed)

    def _default(self, problem: Problem) -> Point:
        return Point(
            alpha=default_alpha(problem) if self.alpha is None else self.alpha,
            beta=default_beta(problem.support.keys) if self.beta is None else self.beta,
        )

    def _grid(self, problem: Problem) -> list[Point]:
        """The most zero-shot-like first."""
        alphas = alpha_grid(problem) if self.alpha is None else [self.alpha]
        betas = beta_grid(problem.support.keys) if self.beta is None else [self.beta]
        return [Point(alpha, beta) for alpha, beta in product(alphas, betas)]
