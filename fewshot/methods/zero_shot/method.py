"""Zero-shot CLIP as a method: it ignores the shots, and is the baseline of every method that uses them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from fewshot.model_selection.cross_validation import FOLDS
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem
from fewshot.prototypes import text_logits


@dataclass(frozen=True, slots=True)
class ZeroShotClassifier:
    """Compares images with the prompt prototypes.

    Attributes:
        text: [K, D] float32, unit rows.
        logit_scale: the backbone's.
    """

    text: Tensor
    logit_scale: float

    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`."""
        return text_logits(features, self.text, logit_scale=self.logit_scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroShot:
    """Zero-shot has no hyperparameters and learns nothing."""

    name: ClassVar[str] = "zero_shot"
    classifier_type: ClassVar[type[ZeroShotClassifier]] = ZeroShotClassifier
    folds: ClassVar[int] = FOLDS

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return self

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> ZeroShotClassifier:
        """See `Method.fit`."""
        return ZeroShotClassifier(problem.class_embeddings, problem.logit_scale)
