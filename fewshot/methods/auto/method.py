"""Choose a method as one chooses a hyperparameter: by cross-validation inside the shots.

Each candidate selects its own hyperparameters first, on the same held-out images on which it is then compared. That
flatters a candidate with many of them, and is one reason more for an order of preference
(`fewshot.model_selection.candidates`).

`select` returns the winner itself: the stored classifier does not depend on the comparison, which is reported in
`HeldOutReport.tried`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from fewshot.calibration.calibrate import calibration_splits, held_out_logits
from fewshot.errors import DataError, UnknownNameError
from fewshot.method import Classifier, Method, TrainedMethod
from fewshot.methods.building import build_method
from fewshot.methods.table import METHODS
from fewshot.model_selection.candidates import CandidateResult, measure_candidates
from fewshot.model_selection.cross_validation import Split, selection_splits
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem

logger = logging.getLogger(__name__)
CANDIDATES = ("tip_adapter_f", "clip_adapter", "linear_probe", "nearest_mean", "tip_adapter", "zero_shot")
"""The preferred first: by mean test accuracy on three sets of photographs with 2 to 16 shots. They need nothing but
features and cost seconds. Left out are ape and tip_x, whose grids of hundreds of points overfit the held-out images, so
that their held-out accuracy is too good by several points; and ape_t, within 1.3 points of tip_adapter_f on every set,
ahead as often as behind, so that comparing the two gains nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Auto:
    """Hyperparameters of the choice among methods.

    Attributes:
        candidates: names of methods, the preferred first. The first is also used where nothing can be compared (fewer
            than 8 held-out images, so with one example of each class).
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
        methods = self.members
        folds = min(method.folds for method in methods)
        if not selection_splits(problem, seed=seed, folds=folds):
            return methods[0].select(problem, seed=seed, training_cache=training_cache), ()
        selected = {method.name: method.select(problem, seed=seed, training_cache=training_cache) for method in methods}
        logits = {}
        for name, method in selected.items():
            _, logits[name], labels = held_out_logits(
                method, problem, seed=seed, training_cache=training_cache, folds=folds
            )
        tried = measure_candidates(logits, labels)
        _log(tried, len(labels))
        return selected[tried[0].method], tried

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """See `TrainedMethod.pretrain_fold`; a candidate that uses fewer folds is pretrained on these only."""
        for method in self.members:
            _, own = calibration_splits(method, split.whole, seed=seed)
            if isinstance(method, TrainedMethod) and any(
                torch.equal(split.support_rows, one.support_rows) for one in own
            ):
                method.pretrain_fold(split, seed=seed, training_cache=training_cache)

    @property
    def members(self) -> Sequence[Method]:
        """The candidates, whose folds are worth spreading one by one."""
        return [build_method(name) for name in self.candidates]


def _log(tried: Sequence[CandidateResult], images: int) -> None:
    for trial in tried:
        logger.info(
            "tried method=%s images=%d accuracy=%.4f behind=%.4f standard_error=%.4f nll=%.4f",
            trial.method,
            images,
            trial.accuracy,
            trial.behind,
            trial.standard_error,
            trial.nll,
        )
