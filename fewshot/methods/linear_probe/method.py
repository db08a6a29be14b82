"""The linear probe as a method.

Where it differs from CoOp's: the features are unit rows, as those are what a classifier scores (the length of a row is
not available to it), with C scaled to match.

Names play no part. A class without shots is therefore never the label, and without any shots at all the probe is
zero-shot.

C is chosen by the search of CoOp, a coarse grid and then bisection, on held-out shots instead of a validation split.
CoOp tries seven values a hundred apart and halves, eight times, the two decades around the best one. The values belong
to raw features with rows about 10 long; ours are for unit rows, so that C does not depend on a backbone's scale: theirs
times 10^2. Of the eight halvings three are left, as held-out shots cannot distinguish C from 1.8 C; and the best of all
values tried is taken rather than the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.methods.hyperparameters import check_number
from fewshot.methods.linear_probe.functional import Plane, fit_plane, on_all_classes
from fewshot.model_selection.cross_validation import FOLDS, Split, best_point, selection_splits
from fewshot.optimization.shots import Shots
from fewshot.optimization.training_cache import State, TrainingCache, no_cache, training_key
from fewshot.problem import Problem

STRENGTHS = tuple(10.0**power for power in range(-4, 9, 2))
HALVINGS = 3
DEFAULT_STRENGTH = 10.0
"""For one shot a class: the best of 1, 10, 100, 1000 on two of three sets, and within a point on the third."""
MAX_ITERATIONS = 1000
TOLERANCE = 1e-5
"""Of the final fit, see `fit_plane`."""
PATH_TOLERANCE = 1e-4
"""Of the fits that only choose: held-out accuracy is the same, for fewer steps."""


@dataclass(frozen=True, slots=True)
class LinearProbeClassifier:
    """A linear map.

    Attributes:
        weight: [K, D] float32.
        bias: [K] float32.
    """

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`."""
        return torch.addmm(self.bias, features, self.weight.T)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearProbe:
    """Hyperparameters of the linear probe; None is chosen inside the shots.

    Attributes:
        strength: inverse regularisation strength C > 0, the weight of the cross-entropies beside the squared weights,
            for unit rows.
    """

    name: ClassVar[str] = "linear_probe"
    classifier_type: ClassVar[type[LinearProbeClassifier]] = LinearProbeClassifier
    folds: ClassVar[int] = FOLDS

    strength: float | None = None

    def __post_init__(self) -> None:
        """Check the range.

        Raises:
            DataError: the value is out of its range.
        """
        check_number("linear_probe.strength", self.strength, low=1e-9, high=1e12)

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return replace(self, strength=self._choose(problem, seed=seed, training_cache=training_cache))

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> LinearProbeClassifier:
        """See `Method.fit`."""
        if not len(problem.support):
            return LinearProbeClassifier(
                problem.logit_scale * problem.class_embeddings,
                problem.class_embeddings.new_zeros(len(problem.class_embeddings)),
            )
        strength = self._choose(problem, seed=seed, training_cache=training_cache)
        key = training_key("linear_probe", problem, seed=0, strength=strength)
        state = training_cache(key, lambda: _fitted(problem, strength))
        return LinearProbeClassifier(state["weight"], state["bias"])

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """See `TrainedMethod.pretrain_fold`."""
        if self.strength is None:
            _path(split.problem, Shots.from_problem(split.problem), training_cache)

    def _choose(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> float:
        if self.strength is not None:
            return self.strength
        splits = selection_splits(problem, seed=seed, folds=self.folds)
        return best_strength(splits, partial(_learner, training_cache=training_cache)) if splits else DEFAULT_STRENGTH


def best_strength(splits: Sequence[Split], learner: Callable[[Split], Callable[[float], Tensor]]) -> float:
    """Return C by grid and bisection; of equals the smallest, which is the smoothest.

    Args:
        splits: what to measure on.
        learner: makes of a split a function of C that learns from it and returns the logits [Q, K] of its queries. It
            is called once for each C.
    """
    logits, tried = {id(split): cache(learner(split)) for split in splits}, set(STRENGTHS)

    def sweep(split: Split, points: Collection[float]) -> Iterator[tuple[float, Tensor]]:
        for point in points:
            yield point, logits[id(split)](point)

    peak = best_point(STRENGTHS, splits, sweep)
    low, high = peak / 10.0, peak * 10.0
    for _ in range(HALVINGS):
        tried |= {low, high}
        middle = (low * high) ** 0.5
        low, high = (low, middle) if best_point([low, high], splits, sweep) == low else (middle, high)
    return best_point(sorted(tried), splits, sweep)


def _fitted(problem: Problem, strength: float) -> State:
    """Fit the final map, from zero, so that it does not depend on how C was found."""
    shots = Shots.from_problem(problem)
    plane = _plane(shots, strength, tolerance=TOLERANCE)
    whole = on_all_classes(plane, shots.classes, problem.num_classes)
    return {"weight": whole.weight.float(), "bias": whole.bias.float()}


def _learner(split: Split, *, training_cache: TrainingCache) -> Callable[[float], Tensor]:
    """Return a function that fits a split at any C, from the last map of its path that is not beyond it."""
    problem, queries = split.problem, split.queries.features
    shots = Shots.from_problem(problem)
    path = _path(problem, shots, training_cache)

    def logits(strength: float) -> Tensor:
        index = max((i for i, tried in enumerate(STRENGTHS) if tried <= strength), default=0)
        plane = Plane(path["weight"][index], path["bias"][index])
        if STRENGTHS[index] != strength:
            plane = _plane(shots, strength, start=plane, tolerance=PATH_TOLERANCE)
        return on_all_classes(plane, shots.classes, problem.num_classes).logits(queries)

    return logits


def _path(problem: Problem, shots: Shots, training_cache: TrainingCache) -> State:
    """Fit the classes with shots along the grid of C, each from the one before: "weight" [7, k, D], "bias" [7, k]."""

    def train() -> State:
        planes: list[Plane] = []
        for strength in STRENGTHS:
            planes.append(_plane(shots, strength, start=planes[-1] if planes else None, tolerance=PATH_TOLERANCE))
        return {name: torch.stack([getattr(plane, name) for plane in planes]) for name in Plane._fields}

    return training_cache(training_key("linear_probe_path", problem, seed=0, strengths=STRENGTHS), train)


def _plane(shots: Shots, strength: float, *, tolerance: float, start: Plane | None = None) -> Plane:
    return fit_plane(
        normalize(shots.views[:, 0], dim=1),
        shots.labels,
        len(shots.classes),
        strength=strength,
        start=start,
        tolerance=tolerance,
        max_iterations=MAX_ITERATIONS,
    )
