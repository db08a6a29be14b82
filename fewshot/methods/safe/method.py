"""SAFE (arXiv 2311.04464) as a method: one training, and two hyperparameters chosen after it on held-out shots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from torch import Tensor

from fewshot.attention_pooling.blend import BlendKind, adapted_problem, blended_features
from fewshot.attention_pooling.pool_training import require_pooling
from fewshot.methods.blended_pooling import BlendedPooling
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem
from fewshot.prototypes import text_logits

if TYPE_CHECKING:
    from fewshot.backbones.pooling import Pooling


@dataclass(frozen=True, slots=True)
class SafeClassifier:
    """A tuned layer beside the frozen one, and the rows that its features are compared with.

    Attributes:
        rows: [K, D] float32, unit rows.
        weights: the tuned tensors of the layer.
        pooling: the frozen layer.
        blend_alpha: share of the tuned layer.
        blend: "normalized" or "raw", see `fewshot.attention_pooling.blend`.
        logit_scale: the backbone's.
    """

    rows: Tensor
    weights: Mapping[str, Tensor]
    pooling: Pooling
    blend_alpha: float
    blend: BlendKind
    logit_scale: float

    def pool(self, dense: Tensor) -> Tensor:
        """See `PoolingClassifier.pool`."""
        return blended_features(self.pooling, dense, self.weights, blend_alpha=self.blend_alpha, kind=self.blend)

    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`."""
        return text_logits(features, self.rows, logit_scale=self.logit_scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Safe(BlendedPooling):
    """Hyperparameters of SAFE: see `BlendedPooling`."""

    name: ClassVar[str] = "safe"
    classifier_type: ClassVar[type[SafeClassifier]] = SafeClassifier

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return replace(self, **self.choose_blend(problem, seed=seed, training_cache=training_cache)._asdict())

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> SafeClassifier:
        """See `Method.fit`."""
        point = self.choose_blend(problem, seed=seed, training_cache=training_cache)
        weights = self.tuned(problem, seed=seed, training_cache=training_cache)
        return SafeClassifier(
            rows=adapted_problem(problem, weights, point, kind=self.blend).class_embeddings,
            weights=weights,
            pooling=require_pooling(problem)[0],
            blend_alpha=point.blend_alpha,
            blend=self.blend,
            logit_scale=problem.logit_scale,
        )
