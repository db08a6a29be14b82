"""SAFE (arXiv 2311.04464) as a method: one training, and two hyperparameters chosen after it on held-out shots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from torch import Tensor

from fewshot.blended import Blending, BlendKind, Branches, blended_features, class_rows
from fewshot.memo import Memo, forget
from fewshot.methods.base import Need
from fewshot.methods.hyperparameters import check_blending
from fewshot.pool_tuning import EPOCHS, LEARNING_RATE, LOSS_TEMPERATURE, MAX_STEPS, TARGET_WEIGHT, Recipe, pooling_of
from fewshot.problem import Problem
from fewshot.selection import Split
from fewshot.text_logits import text_logits

if TYPE_CHECKING:
    from fewshot.backbones.pooling import Pooling


@dataclass(frozen=True, slots=True)
class SafeClassifier:
    """A tuned layer beside the frozen one, and what its features are compared with.

    Attributes:
        rows: [K, D] float32, unit rows.
        weights: the tuned tensors of the layer.
        pooling: the frozen layer.
        blend_alpha: share of the tuned layer.
        blend: "normalized" or "raw", see `fewshot.blended`.
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
class Safe:
    """Hyperparameters of SAFE; None is chosen inside the shots.

    Attributes:
        blend_alpha: share of the tuned layer, in [0, 1]; 0 and an image weight of 0 is zero-shot.
        image_weight: weight of a class's mean beside its text, >= 0; 0 is the paper's classifier.
        blend: whether features are brought to unit length before they are mixed ("normalized") or not ("raw").
        scope: which tensors of the layer are tuned, see `Pooling.scopes`.
        target_weight: weight of the class means in the rows that training draws features to, >= 0; 0 is the paper's.
        learning_rate: at the peak, see `fewshot.pool_tuning.Recipe` for this and the rest.
        epochs: passes over the shots.
        max_steps: however many shots there are.
        loss_temperature: divides the logits in the loss, > 0.
    """

    name: ClassVar[str] = "safe"
    summary: ClassVar[str] = "the image tower's pooling layer tuned to the classes, mixed with the frozen one"
    classifier_type: ClassVar[type[SafeClassifier]] = SafeClassifier
    needs: ClassVar[frozenset[Need]] = frozenset({"dense"})
    folds: ClassVar[int] = 1

    blend_alpha: float | None = None
    image_weight: float | None = None
    blend: BlendKind = "normalized"
    scope: str = "attn"
    target_weight: float = TARGET_WEIGHT
    learning_rate: float = LEARNING_RATE
    epochs: int = EPOCHS
    max_steps: int = MAX_STEPS
    loss_temperature: float = LOSS_TEMPERATURE

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_blending("safe", self._blending)

    def select(self, problem: Problem, *, seed: int, memo: Memo = forget) -> Self:
        """See `Method.select`."""
        return replace(self, **self._blending.choose(problem, seed=seed, memo=memo)._asdict())

    def fit(self, problem: Problem, *, seed: int, memo: Memo = forget) -> SafeClassifier:
        """See `Method.fit`."""
        blending = self._blending
        point = blending.choose(problem, seed=seed, memo=memo)
        weights = blending.weights(problem, seed=seed, memo=memo)
        shots = Branches.of_shots(problem, weights).blended(blend_alpha=point.blend_alpha, kind=self.blend)
        return SafeClassifier(
            rows=class_rows(problem, shots, image_weight=point.image_weight),
            weights=weights,
            pooling=pooling_of(problem)[0],
            blend_alpha=point.blend_alpha,
            blend=self.blend,
            logit_scale=problem.logit_scale,
        )

    def rehearse(self, split: Split, *, seed: int, memo: Memo) -> None:
        """See `TrainedMethod.rehearse`."""
        self._blending.weights(split.problem, seed=seed, memo=memo)

    @property
    def _blending(self) -> Blending:
        recipe = Recipe(
            scope=self.scope,
            target_weight=self.target_weight,
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            max_steps=self.max_steps,
            loss_temperature=self.loss_temperature,
        )
        return Blending(
            recipe=recipe,
            kind=self.blend,
            blend_alpha=self.blend_alpha,
            image_weight=self.image_weight,
            folds=self.folds,
        )
