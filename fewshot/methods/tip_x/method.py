"""Tip-X as a method: training-free, hyperparameters from cross-validation inside the shots.

gamma is measured in the logit scale like alpha; the grid, 0 to 64 for a scale of 100, goes beyond the published 30.
Where nothing can be held out it is 0: Tip-Adapter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from fewshot.key_value_cache.cache_classifier import CachePoint, cache_grid, default_point, sweep_cache
from fewshot.key_value_cache.kernel import Cache
from fewshot.methods.hyperparameters import check_number
from fewshot.methods.tip_x.classifier import TipXClassifier
from fewshot.methods.tip_x.functional import Contrast, Signatures, collapse, frozen_psi
from fewshot.model_selection.cross_validation import FOLDS, Split, select_point
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem

GAMMA_UNITS = (0.0, 0.01, 0.04, 0.16, 0.64)


class TipXPoint(NamedTuple):
    """A point of the grid."""

    gamma: float
    alpha: float
    beta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TipX:
    """Hyperparameters of Tip-X; None is chosen inside the shots.

    Attributes:
        alpha: weight of the votes by cosine, >= 0.
        beta: how fast such a vote falls with the distance, >= 0; 0 counts every example the same.
        gamma: weight of the votes by divergence, >= 0; 0 is Tip-Adapter.
        tau: temperature of the cosines with the text, > 0.
    """

    name: ClassVar[str] = "tip_x"
    classifier_type: ClassVar[type[TipXClassifier]] = TipXClassifier
    folds: ClassVar[int] = FOLDS

    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    tau: float = 0.5

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_number("tip_x.alpha", self.alpha)
        check_number("tip_x.beta", self.beta)
        check_number("tip_x.gamma", self.gamma)
        check_number("tip_x.tau", self.tau, low=1e-3)

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return replace(self, **self._choose(problem, seed=seed)._asdict())

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> TipXClassifier:
        """See `Method.fit`."""
        point, cache = self._choose(problem, seed=seed), Cache.from_problem(problem)
        contrast = self._contrast(problem, cache)
        return TipXClassifier(
            text=problem.class_embeddings,
            keys=cache.keys,
            counts=cache.counts,
            rows=contrast.rows,
            offsets=contrast.offsets,
            certainty=contrast.certainty,
            alpha=point.alpha,
            beta=point.beta,
            gamma=point.gamma,
            tau=self.tau,
            logit_scale=problem.logit_scale,
        )

    def _contrast(self, problem: Problem, cache: Cache) -> Contrast:
        signatures = Signatures.from_text(problem.class_embeddings, tau=self.tau)
        return collapse(cache.keys, cache.counts, signatures, frozen_psi(problem, signatures))

    def _choose(self, problem: Problem, *, seed: int) -> TipXPoint:
        return select_point(self._grid(problem), problem, self._sweep, default=self._default, seed=seed)

    def _sweep(self, split: Split, points: Collection[TipXPoint]) -> Iterator[tuple[TipXPoint, Tensor]]:
        """Yield the logits of the queries of a split at each point: those of Tip-Adapter, and gamma an axpy."""
        problem, features = split.problem, split.queries.features
        cache = Cache.from_problem(problem)
        votes = self._contrast(problem, cache).votes(
            features, Signatures.from_text(problem.class_embeddings, tau=self.tau)
        )
        gammas: dict[CachePoint, list[float]] = {}
        for point in points:
            gammas.setdefault(CachePoint(point.alpha, point.beta), []).append(point.gamma)
        tip = sweep_cache(
            features, problem.class_embeddings, cache.keys, cache.counts, gammas, logit_scale=problem.logit_scale
        )
        for at, logits in tip:
            for gamma in gammas[at]:
                yield TipXPoint(gamma, *at), torch.add(logits, votes, alpha=gamma)

    def _default(self, problem: Problem) -> TipXPoint:
        tip = default_point(problem, alpha=self.alpha, beta=self.beta)
        return TipXPoint(0.0 if self.gamma is None else self.gamma, *tip)

    def _grid(self, problem: Problem) -> list[TipXPoint]:
        """List Tip-Adapter first, and within it the most zero-shot-like points."""
        units = [unit * problem.logit_scale for unit in GAMMA_UNITS]
        gammas = [float(f"{unit:.3g}") for unit in units] if self.gamma is None else [self.gamma]
        cache = cache_grid(problem, alpha=self.alpha, beta=self.beta)
        return [TipXPoint(gamma, *at) for gamma, at in product(gammas, cache)]
