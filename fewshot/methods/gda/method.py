"""GDA (Wang et al. 2024, arXiv 2402.04087) as a method: one solution in closed form, and a share of the text.

    logits = s x ((1 - r) W + r T)^T + s (1 - r) b        r: text share, W and b of `fewshot.gaussian_classes`

That is the rule of the paper, s x T^T + alpha (x W^T + b), with alpha = s (1 - r) / r, so that both ends can be
reached: r = 1 is zero-shot, r = 0 leaves the text out. r is chosen inside the shots; the paper's alpha on a
validation split, which for ImageNet is the test split. Where nothing can be held out, as with one shot a class, the
text has the weight that it has in `nearest_mean`, which is what GDA of one view of one shot a class is.

All views of an image are rows. They are not independent, so the covariance is shrunk as that of as many rows as there
are images (`n_effective`); in the authors' code it is that of as many as there are views. Images that are listed twice,
such as those of oversampled folds, are rows once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, get_args

import torch
from torch import Tensor

from fewshot.gaussian_classes import ClassStatistics, Plane
from fewshot.methods.gda.functional import class_plane, distinct
from fewshot.methods.hyperparameters import check_choice, check_number
from fewshot.model_selection.cross_validation import FOLDS, Split, select_point
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem
from fewshot.prototypes import LinearClassifier, default_text_weight, three_digits

EffectiveRows = Literal["images", "views"]
TEXT_SHARES = (0.0, 1 / 9, 1 / 5, 1 / 3, 1 / 2, 2 / 3, 4 / 5, 8 / 9, 1.0)
"""Weights of the text beside the images of 0, 1/8, 1/4, ..., 8 and, for zero-shot, infinity. Of equals the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gda:
    """Hyperparameters of Gaussian discriminant analysis; None is chosen inside the shots.

    Attributes:
        text_share: share r of the text beside the images, in [0, 1]; 1 is zero-shot.
        shrinkage: factor of the published shrinkage of the covariance, > 0; a large one makes it the nearest class
            mean.
        n_effective: number of independent rows that the shrinkage assumes: one for each image ("images") or for each
            view ("views", as published).
    """

    name: ClassVar[str] = "gda"
    classifier_type: ClassVar[type[LinearClassifier]] = LinearClassifier
    folds: ClassVar[int] = FOLDS

    text_share: float | None = None
    shrinkage: float = 1.0
    n_effective: EffectiveRows = "images"

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_number("gda.text_share", self.text_share, high=1.0)
        check_number("gda.shrinkage", self.shrinkage, low=1e-3, high=1e9)
        check_choice("gda.n_effective", self.n_effective, get_args(EffectiveRows))

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return replace(self, text_share=self._choose(problem, seed=seed))

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> LinearClassifier:
        """See `Method.fit`."""
        share = self._choose(problem, seed=seed) if len(problem.support) else 1.0
        return with_text(self.plane(problem), problem, share)

    def plane(self, problem: Problem) -> Plane:
        """Return the discriminant without the text, in the units of cosines; without shots, zeros."""
        K, D = problem.class_embeddings.shape
        if not len(problem.support):
            return Plane(*(torch.zeros(*shape, dtype=torch.float64) for shape in ((K, D), (K,))))
        shots = distinct(problem.support)
        statistics = ClassStatistics.from_views(shots.views, shots.labels, num_classes=K)
        return class_plane(
            statistics, problem.class_embeddings, images=self.n_effective == "images", shrinkage=self.shrinkage
        )

    def _choose(self, problem: Problem, *, seed: int) -> float:
        shares = TEXT_SHARES if self.text_share is None else (self.text_share,)
        return select_point(shares, problem, self._sweep, default=_default_share, seed=seed)

    def _sweep(self, split: Split, points: Collection[float]) -> Iterator[tuple[float, Tensor]]:
        """Yield the logits of the queries of a split at each text share, from one solution."""
        problem, queries = split.problem, split.queries.features
        plane = self.plane(problem)
        for share in points:
            yield share, with_text(plane, problem, share).logits(queries)


def with_text(plane: Plane, problem: Problem, share: float) -> LinearClassifier:
    """Merge a discriminant and the text of the classes into one linear map, which costs what zero-shot costs."""
    weight = (1.0 - share) * plane.weight + share * problem.class_embeddings.double()
    scaled = (problem.logit_scale * weight, problem.logit_scale * (1.0 - share) * plane.bias)
    return LinearClassifier(*(part.float() for part in scaled))


def _default_share(problem: Problem) -> float:
    weight = default_text_weight(problem)
    return three_digits(weight / (1.0 + weight))
