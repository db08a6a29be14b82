"""CLIP-Adapter as a method: one training, and two hyperparameters chosen after it on held-out shots."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import ClassVar, Self

from torch import Tensor

from fewshot.feature_adapter import (
    LEARNING_RATE,
    RATIOS,
    STEPS,
    FeatureAdapterSettings,
    adapted,
    train_bottleneck_on_shots,
)
from fewshot.key_value_cache.kernel import Cache
from fewshot.methods.clip_adapter.functional import ClipAdapterPoint, class_rows, sweep
from fewshot.methods.hyperparameters import check_number
from fewshot.model_selection.cross_validation import FOLDS, Split, select_point
from fewshot.optimization.training_cache import State, TrainingCache, no_cache, training_key
from fewshot.problem import Problem
from fewshot.prototypes import IMAGE_WEIGHTS, default_image_weight, text_logits

DEFAULT_RATIO = 0.1
"""With one shot a class, the network has learned too little for the share that it has in training."""


@dataclass(frozen=True, slots=True)
class ClipAdapterClassifier:
    """A network, and the rows that its output is compared with.

    Attributes:
        rows: [K, D] float32, unit rows.
        down: [D, D // 4] float32.
        up: [D // 4, D] float32.
        residual_ratio: share of the network.
        second_relu: see `fewshot.feature_adapter.FeatureAdapterSettings`.
        logit_scale: the backbone's.
    """

    rows: Tensor
    down: Tensor
    up: Tensor
    residual_ratio: float
    second_relu: bool
    logit_scale: float

    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`."""
        network = {"down": self.down, "up": self.up}
        mixed = adapted(features, network, residual_ratio=self.residual_ratio, second_relu=self.second_relu)
        return text_logits(mixed, self.rows, logit_scale=self.logit_scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipAdapter:
    """Hyperparameters of CLIP-Adapter; None is chosen inside the shots.

    Attributes:
        residual_ratio: share of the output of the network, in [0, 1]; 0 and an image weight of 0 is zero-shot.
        image_weight: weight of the class mean (of adapted examples) beside the text, >= 0; 0 is the classifier of the
            paper.
        learning_rate: peak learning rate of AdamW, in [1e-9, 1].
        steps: training steps, >= 0.
        second_relu: add a second ReLU at the end of the network, as the authors' code does.
    """

    name: ClassVar[str] = "clip_adapter"
    classifier_type: ClassVar[type[ClipAdapterClassifier]] = ClipAdapterClassifier
    folds: ClassVar[int] = FOLDS

    residual_ratio: float | None = None
    image_weight: float | None = None
    learning_rate: float = LEARNING_RATE
    steps: int = STEPS
    second_relu: bool = False

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_number("clip_adapter.residual_ratio", self.residual_ratio, high=1.0)
        check_number("clip_adapter.image_weight", self.image_weight)
        check_number("clip_adapter.learning_rate", self.learning_rate, low=1e-9, high=1.0)
        check_number("clip_adapter.steps", self.steps)

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return replace(self, **self._choose(problem, seed=seed, training_cache=training_cache)._asdict())

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> ClipAdapterClassifier:
        """See `Method.fit`."""
        point, network = (
            self._choose(problem, seed=seed, training_cache=training_cache),
            self._network(problem, seed=seed, training_cache=training_cache),
        )
        return ClipAdapterClassifier(
            rows=class_rows(
                problem.class_embeddings, Cache.from_problem(problem), network, point, second_relu=self.second_relu
            ),
            down=network["down"],
            up=network["up"],
            residual_ratio=point.residual_ratio,
            second_relu=self.second_relu,
            logit_scale=problem.logit_scale,
        )

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """See `TrainedMethod.pretrain_fold`."""
        self._network(split.problem, seed=seed, training_cache=training_cache)

    def _choose(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> ClipAdapterPoint:
        def swept(split: Split, points: Collection[ClipAdapterPoint]) -> Iterator[tuple[ClipAdapterPoint, Tensor]]:
            network = self._network(split.problem, seed=seed, training_cache=training_cache)
            return sweep(split, points, network, second_relu=self.second_relu)

        return select_point(self._grid(), problem, swept, default=self._default, seed=seed, folds=self.folds)

    def _network(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> State:
        settings = FeatureAdapterSettings(
            learning_rate=self.learning_rate, steps=self.steps, second_relu=self.second_relu
        )
        key = training_key("clip_adapter", problem, seed=seed, **asdict(settings))
        return training_cache(key, lambda: train_bottleneck_on_shots(problem, settings=settings, seed=seed))

    def _default(self, problem: Problem) -> ClipAdapterPoint:
        return ClipAdapterPoint(
            residual_ratio=DEFAULT_RATIO if self.residual_ratio is None else self.residual_ratio,
            image_weight=default_image_weight(problem) if self.image_weight is None else self.image_weight,
        )

    def _grid(self) -> list[ClipAdapterPoint]:
        """List the most zero-shot-like points first."""
        ratios = RATIOS if self.residual_ratio is None else (self.residual_ratio,)
        weights = IMAGE_WEIGHTS if self.image_weight is None else (self.image_weight,)
        return [ClipAdapterPoint(ratio, weight) for ratio, weight in product(ratios, weights)]
