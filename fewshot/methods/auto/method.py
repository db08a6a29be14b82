"""Choose a method by nested cross-validation inside the shots (`fewshot.model_selection.nested`).

A candidate chooses its hyperparameters for each fold anew, without the images on which it is then compared, so that the
number of its hyperparameters does not flatter it. Of those within one standard error of the most accurate, paired, the
simplest is taken (`fewshot.model_selection.candidates`), in an order that follows from how the methods learn
(`fewshot.methods.auto.preference`). With one or two shots a class nothing can be compared, and the method is taken that
is best with as many on other data sets.

`select` returns the winner itself: the stored classifier does not depend on the comparison, which is reported in
`HeldOutReport.candidates`. Only these accuracies are nested; that of the winner is still slightly too good where it
won by luck. The accuracy of the report is that of its final hyperparameters, on the images that they were chosen on.

The cost: for each candidate 4 choices of hyperparameters and 4 fits beside those of the winner. For those in closed
form this is nothing; those that are trained are trained 11 times (once without each fold, once without each pair of
folds, and on all shots) instead of 5.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch

from fewshot.calibration.calibrate import calibration_splits
from fewshot.errors import DataError, UnknownNameError
from fewshot.method import Classifier, Method, TrainedMethod
from fewshot.methods.auto.preference import few_shot_choice, simplest_first
from fewshot.methods.building import build_method
from fewshot.methods.table import METHODS, comparable
from fewshot.model_selection.candidates import CandidateResult
from fewshot.model_selection.cross_validation import Split, held_out_splits
from fewshot.model_selection.nested import compare_nested
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem

logger = logging.getLogger(__name__)
CANDIDATES = ("gda", "nearest_mean", "tip_adapter", "linear_probe", "rla", "tip_adapter_f")
"""They need nothing but features. Left out are zero_shot, variants of candidates (ape and tip_x of tip_adapter, ape_t
of tip_adapter_f) and clip_adapter, whose training takes longest.

zero_shot is gda with a text share of 1 and tip_adapter with alpha = 0. As a candidate of its own it has an unfair
advantage with few shots: the others are measured with the shots that a fold leaves, and it needs none."""
HYPERPARAMETERS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"linear_probe": MappingProxyType({"text_rows": True})}
)
"""Those of candidates that differ from the defaults: the linear probe chooses whether names help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Auto:
    """Hyperparameters of the choice among methods.

    Attributes:
        candidates: names of methods, in any order. linear_probe and archive_linear_probe are compared among at most
            2,000 classes.
    """

    name: ClassVar[str] = "auto"
    classifier_type: ClassVar[type[Classifier]] = Classifier  # type: ignore[type-abstract]

    candidates: tuple[str, ...] = CANDIDATES

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            DataError: there is none, one is named twice, or one is not another method.
        """
        object.__setattr__(self, "candidates", tuple(self.candidates))
        if not self.candidates or len(set(self.candidates)) < len(self.candidates):
            raise DataError(f"auto.candidates must be different methods, at least one, got {list(self.candidates)}")
        others = [name for name in METHODS if name != self.name]
        for name in self.candidates:
            if name not in others:
                raise DataError(f"auto.candidates: {UnknownNameError('method', name, others)}")

    @property
    def folds(self) -> int:
        """The largest number of folds of any candidate."""
        return max(method.folds for method in self.members)

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Method:
        """See `Method.select`; the result is the winner, not an `Auto`."""
        return self.compare(problem, seed=seed, training_cache=training_cache)[0]

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Classifier:
        """See `Method.fit`."""
        return self.select(problem, seed=seed, training_cache=training_cache).fit(
            problem, seed=seed, training_cache=training_cache
        )

    def compare(
        self, problem: Problem, *, seed: int, training_cache: TrainingCache
    ) -> tuple[Method, tuple[CandidateResult, ...]]:
        """See `fewshot.calibration.calibrate.ComparingMethod`."""
        compared = self._compared(problem)
        tried = compare_nested(
            [_candidate(name) for name in compared], problem, seed=seed, training_cache=training_cache
        )
        _log(tried, len(problem.support))
        winner = _candidate(tried[0].method if tried else few_shot_choice(compared, shots=_shots_per_class(problem)))
        return winner.select(problem, seed=seed, training_cache=training_cache), tried

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """See `TrainedMethod.pretrain_fold`; a candidate that uses fewer folds is pretrained on these only."""
        for method in map(_candidate, self._compared(split.whole)):
            _, own = calibration_splits(method, split.whole, seed=seed)
            if isinstance(method, TrainedMethod) and any(
                torch.equal(split.support_rows, one.support_rows) for one in own
            ):
                for each in (split, *held_out_splits(split.problem, seed=seed)[: method.folds]):
                    method.pretrain_fold(each, seed=seed, training_cache=training_cache)

    @property
    def members(self) -> Sequence[Method]:
        """The candidates, the simplest first, whose folds are worth spreading one by one."""
        return [_candidate(name) for name in simplest_first(self.candidates)]

    def _compared(self, problem: Problem) -> list[str]:
        """Return the candidates that are compared on a problem, the simplest first."""
        return comparable(simplest_first(self.candidates), classes=problem.num_classes)


def _candidate(name: str) -> Method:
    return build_method(name, **HYPERPARAMETERS.get(name, {}))


def _shots_per_class(problem: Problem) -> float:
    """Return the mean number of shots of the classes that have any; 0 without shots."""
    return len(problem.support) / max(1, len(set(problem.support.labels.tolist())))


def _log(tried: Sequence[CandidateResult], images: int) -> None:
    for trial in tried:
        logger.info(
            "tried method=%s shots=%d accuracy=%.4f behind=%.4f standard_error=%.4f nll=%.4f",
            trial.method,
            images,
            trial.accuracy,
            trial.behind,
            trial.standard_error,
            trial.nll,
        )
