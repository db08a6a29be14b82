"""Zero-shot CLIP as a method: it ignores the shots, and is the baseline that each shot has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from fewshot.method import Need
from fewshot.model_selection.cross_validation import FOLDS
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem
from fewshot.prototypes import text_logits


@dataclass(frozen=True, slots=True)
class ZeroShotClassifier:
    """Cosine to the prompt prototypes.

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
    """Nothing to choose, nothing to learn."""

    name: ClassVar[str] = "zero_shot"
    summary: ClassVar[str] = "the class names alone; ignores the examples"
    classifier_type: ClassVar[type[ZeroShotClassifier]] = ZeroShotClassifier
    needs: ClassVar[frozenset[Need]] = frozenset()
    folds: ClassVar[int] = FOLDS

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return self

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> ZeroShotClassifier:
        """See `Method.fit`."""
        return ZeroShotClassifier(problem.class_embeddings, problem.logit_scale)
