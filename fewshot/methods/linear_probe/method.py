"""The linear probe as a method.

Where it differs from CoOp's: the features are unit rows, as those are what a classifier scores (the length of a row is
not available to it), with C scaled to match.

By default names play no part. A class without shots is therefore never the label, and without any shots at all the
probe is zero-shot. There are two ways to let the names in, and then all classes take part:

* Text rows (`text_rows`; Lin et al. 2023, arXiv 2301.06267): the text of each class is one more row of it, with the
  weight of so many times its shots. Theirs are half of each batch of SGD, ours enter the same convex problem.
* A prior (`prior = "text"`; CLAP of Silva-Rodriguez et al. 2024, arXiv 2312.12730): the weights of class k are drawn
  not to zero but to lambda_k s t_k, with their lambda_k, the mean probability that zero-shot gives to the right class
  of its shots (of a class without shots, the mean of the others'). Theirs is a penalty lambda_k |w_k - t_k|^2 on
  normalised weights, with none for a class that zero-shot never gets right; ours keeps the penalty of the probe, and
  the problem convex: lambda |w - s t|^2 + (1 - lambda) |w|^2 is |w - lambda s t|^2 and a constant.

C is chosen by the search of CoOp, a coarse grid and then bisection, on held-out shots instead of a validation split.
CoOp tries seven values a hundred apart and halves, eight times, the two decades around the best one. The values belong
to raw features with rows about 10 long; ours are for unit rows, so that C does not depend on a backbone's scale: theirs
times 10^2. Of the eight halvings three are left, as held-out shots cannot distinguish C from 1.8 C; and the best of all
values tried is taken rather than the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar, NamedTuple, Self, get_args

import torch
from torch import Tensor

from fewshot.errors import DataError
from fewshot.methods.hyperparameters import check_choice, check_number
from fewshot.methods.linear_probe.functional import Plane, fit_plane, on_all_classes
from fewshot.methods.linear_probe.rows import Prior, ProbeRows
from fewshot.model_selection.cross_validation import FOLDS, Split, best_point, selection_splits
from fewshot.optimization.training_cache import State, TrainingCache, no_cache, training_key
from fewshot.problem import Problem
from fewshot.prototypes import LinearClassifier, default_text_weight

C_GRID = tuple(10.0**power for power in range(-4, 9, 2))
TEXT_WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0)
"""The one without text first, which is taken among equals."""
HALVINGS = 3
DEFAULT_C = 10.0
"""For one shot a class: the best of 1, 10, 100, 1000 on two of three sets, and within a point on the third."""
MAX_ITERATIONS = 1000
TOLERANCE = 1e-5
"""Of the final fit, see `fit_plane`."""
PATH_TOLERANCE = 1e-4
"""Of the fits that only choose: held-out accuracy is the same, for fewer steps."""
FEW_CLASSES, RESCALED_CLASSES = 1000, 100
"""Above the first number, tolerances are those of the second, divided by the number of classes, as the entries of the
gradient are: each class has its share of the rows. Where 1,000 classes take steps, 2,000 have no entry at zero above
`PATH_TOLERANCE`, and would take none."""


class ProbePoint(NamedTuple):
    """A point of the grid."""

    strength: float
    text_weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearProbe:
    """Hyperparameters of the linear probe; None is chosen inside the shots.

    Attributes:
        strength: inverse regularisation strength C > 0, the weight of the cross-entropies beside the squared weights,
            for unit rows.
        text_rows: let the text of each class be a further example of it.
        text_weight: weight of this example, in units of the mean number of shots of a class, >= 0; 0 leaves it out.
        prior: what the weights of a class are drawn to: zero, or as much of its text as zero-shot is right about its
            examples ("text").
    """

    name: ClassVar[str] = "linear_probe"
    classifier_type: ClassVar[type[LinearClassifier]] = LinearClassifier
    folds: ClassVar[int] = FOLDS

    strength: float | None = None
    text_rows: bool = False
    text_weight: float | None = None
    prior: Prior = "zero"

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_number("linear_probe.strength", self.strength, low=1e-9, high=1e12)
        check_number("linear_probe.text_weight", self.text_weight, high=1e6)
        check_choice("linear_probe.prior", self.prior, get_args(Prior))
        if self.text_weight and not self.text_rows:
            raise DataError(
                f"linear_probe.text_weight = {self.text_weight:g} has no effect without text rows; set text_rows = true"
            )

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return replace(self, **self._choose(problem, seed=seed, training_cache=training_cache)._asdict())

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> LinearClassifier:
        """See `Method.fit`."""
        if not len(problem.support):
            return LinearClassifier(
                problem.logit_scale * problem.class_embeddings,
                problem.class_embeddings.new_zeros(len(problem.class_embeddings)),
            )
        point = self._choose(problem, seed=seed, training_cache=training_cache)
        text = self._text_settings(point.text_weight)
        text |= _rescaling(problem)
        key = training_key("linear_probe", problem, seed=0, strength=point.strength, **text)
        state = training_cache(key, lambda: _fitted(self._rows(problem, point.text_weight), problem, point.strength))
        return LinearClassifier(state["weight"], state["bias"])

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """See `TrainedMethod.pretrain_fold`."""
        if self.strength is None:
            for text_weight in self._text_weights():
                self._path(split.problem, text_weight, training_cache)

    def _choose(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> ProbePoint:
        text_weights = self._text_weights()
        if self.strength is not None and len(text_weights) == 1:
            return ProbePoint(self.strength, text_weights[0])
        splits = selection_splits(problem, seed=seed, folds=self.folds)
        if not splits:
            return ProbePoint(
                strength=DEFAULT_C if self.strength is None else self.strength,
                text_weight=default_text_weight(problem) if len(text_weights) > 1 else text_weights[0],
            )

        measured: dict[ProbePoint, dict[int, Tensor]] = {}
        for text_weight in text_weights:
            learners = {id(split): cache(self._learner(split, text_weight, training_cache)) for split in splits}
            c = self.strength or best_c(splits, lambda split, known=learners: known[id(split)])  # type: ignore[misc]
            if len(text_weights) == 1:
                return ProbePoint(c, text_weight)
            measured[ProbePoint(c, text_weight)] = {split: logits(c) for split, logits in learners.items()}

        def sweep(split: Split, points: Collection[ProbePoint]) -> Iterator[tuple[ProbePoint, Tensor]]:
            for point in points:
                yield point, measured[point][id(split)]

        return best_point(list(measured), splits, sweep)

    def _text_weights(self) -> tuple[float, ...]:
        if not self.text_rows:
            return (0.0,)
        return TEXT_WEIGHTS if self.text_weight is None else (self.text_weight,)

    def _text_settings(self, text_weight: float) -> dict[str, float | str]:
        """Return what distinguishes a training from one without the text, whose keys are older than the text."""
        settings: dict[str, float | str] = {"text_weight": text_weight, "prior": self.prior}
        return settings if text_weight or self.prior != "zero" else {}

    def _rows(self, problem: Problem, text_weight: float) -> ProbeRows:
        return ProbeRows.from_problem(problem, text_weight=text_weight, prior=self.prior)

    def _learner(self, split: Split, text_weight: float, training_cache: TrainingCache) -> Callable[[float], Tensor]:
        """Return a function that fits a split at any C, from the last map of its path that is not beyond it."""
        problem, queries = split.problem, split.queries.features
        rows = self._rows(problem, text_weight)
        path = self._path(problem, text_weight, training_cache)

        def logits(c: float) -> Tensor:
            index = max((i for i, tried in enumerate(C_GRID) if tried <= c), default=0)
            plane = Plane(path["weight"][index], path["bias"][index])
            if C_GRID[index] != c:
                plane = _plane(rows, c, start=plane, tolerance=tolerance_among(problem.num_classes, PATH_TOLERANCE))
            return on_all_classes(plane, rows.classes, problem.num_classes).logits(queries)

        return logits

    def _path(self, problem: Problem, text_weight: float, training_cache: TrainingCache) -> State:
        """Fit along the grid of C, each map from the one before: "weight" [7, k, D], "bias" [7, k]."""

        def train() -> State:
            rows, planes = self._rows(problem, text_weight), list[Plane]()
            tolerance = tolerance_among(problem.num_classes, PATH_TOLERANCE)
            for c in C_GRID:
                planes.append(_plane(rows, c, start=planes[-1] if planes else None, tolerance=tolerance))
            return {name: torch.stack([getattr(plane, name) for plane in planes]) for name in Plane._fields}

        text = self._text_settings(text_weight) | _rescaling(problem)
        return training_cache(training_key("linear_probe_path", problem, seed=0, strengths=C_GRID, **text), train)


def best_c(splits: Sequence[Split], learner: Callable[[Split], Callable[[float], Tensor]]) -> float:
    """Return C by grid and bisection; of equals the smallest, which is the smoothest.

    Args:
        splits: what to measure on.
        learner: makes of a split a function of C that learns from it and returns the logits [Q, K] of its queries. It
            is called once for each C.
    """
    logits, tried = {id(split): cache(learner(split)) for split in splits}, set(C_GRID)

    def sweep(split: Split, points: Collection[float]) -> Iterator[tuple[float, Tensor]]:
        for point in points:
            yield point, logits[id(split)](point)

    peak = best_point(C_GRID, splits, sweep)
    low, high = peak / 10.0, peak * 10.0
    for _ in range(HALVINGS):
        tried |= {low, high}
        middle = (low * high) ** 0.5
        low, high = (low, middle) if best_point([low, high], splits, sweep) == low else (middle, high)
    return best_point(sorted(tried), splits, sweep)


def _fitted(rows: ProbeRows, problem: Problem, c: float) -> State:
    """Fit the final map, from zero, so that it does not depend on how C was found."""
    plane = _plane(rows, c, tolerance=tolerance_among(problem.num_classes, TOLERANCE))
    whole = on_all_classes(plane, rows.classes, problem.num_classes)
    return {"weight": whole.weight.float(), "bias": whole.bias.float()}


def tolerance_among(classes: int, tolerance: float) -> float:
    """Return the tolerance of a fit among so many classes, given that among few; see `FEW_CLASSES`."""
    return tolerance * RESCALED_CLASSES / classes if classes > FEW_CLASSES else tolerance


def _rescaling(problem: Problem) -> dict[str, float | str]:
    """Return what distinguishes a training with another tolerance; those among few classes keep their keys."""
    return {} if problem.num_classes <= FEW_CLASSES else {"rescaled_classes": RESCALED_CLASSES}


def _plane(rows: ProbeRows, c: float, *, tolerance: float, start: Plane | None = None) -> Plane:
    return fit_plane(
        rows.features,
        rows.labels,
        len(rows.classes),
        c=c,
        start=start,
        weights=rows.weights,
        anchor=rows.anchor,
        tolerance=tolerance,
        max_iterations=MAX_ITERATIONS,
    )
