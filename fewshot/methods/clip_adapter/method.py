"""CLIP-Adapter as a method: one training, and two hyperparameters chosen after it on held-out shots.

With `recipe = "published"` nothing is chosen: the residual ratio is the 0.2 of the authors' code, no class mean is
added, and the network ends in their second ReLU and is trained as theirs, 200 epochs of SGD in CoOp's schedule. (Their
paper searches the ratio on each data set and names another learning rate, 1e-5; it does not say on which images.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, ClassVar, Self, get_args

from torch import Tensor

from fewshot.feature_adapter import (
    LEARNING_RATE,
    PUBLISHED_BATCH_SIZE,
    PUBLISHED_LEARNING_RATE,
    PUBLISHED_RATIO,
    RATIOS,
    STEPS,
    FeatureAdapterSettings,
    adapted,
    published_steps,
    train_bottleneck_as_published,
    train_bottleneck_on_shots,
)
from fewshot.key_value_cache.kernel import Cache
from fewshot.methods.clip_adapter.functional import ClipAdapterPoint, class_rows, sweep
from fewshot.methods.hyperparameters import Recipe, check_choice, check_count, check_number
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
        recipe: "published" takes the settings of the authors' code for what is not set; it chooses nothing.
        residual_ratio: share of the output of the network, in [0, 1]; 0 and an image weight of 0 is zero-shot.
        image_weight: weight of the class mean (of adapted examples) beside the text, >= 0; 0 is the classifier of the
            paper.
        learning_rate: peak learning rate, in [1e-9, 1]. Not set: 3e-3 of AdamW, published 2e-3 of SGD.
        steps: training steps, >= 0. Not set: 400, published 200 epochs of batches of 32.
        second_relu: add a second ReLU at the end of the network, as the authors' code does. Not set: only published.
    """

    name: ClassVar[str] = "clip_adapter"
    classifier_type: ClassVar[type[ClipAdapterClassifier]] = ClipAdapterClassifier
    folds: ClassVar[int] = FOLDS

    recipe: Recipe = "default"
    residual_ratio: float | None = None
    image_weight: float | None = None
    learning_rate: float | None = None
    steps: int | None = None
    second_relu: bool | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_choice("clip_adapter.recipe", self.recipe, get_args(Recipe))
        check_number("clip_adapter.residual_ratio", self.residual_ratio, high=1.0)
        check_number("clip_adapter.image_weight", self.image_weight)
        check_number("clip_adapter.learning_rate", self.learning_rate, low=1e-9, high=1.0)
        check_count("clip_adapter.steps", self.steps)

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        point = self._choose(problem, seed=seed, training_cache=training_cache)
        return replace(self, **point._asdict(), **self._settled(problem))

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> ClipAdapterClassifier:
        """See `Method.fit`."""
        second_relu = self._settled(problem)["second_relu"]
        point, network = (
            self._choose(problem, seed=seed, training_cache=training_cache),
            self._network(problem, seed=seed, training_cache=training_cache),
        )
        return ClipAdapterClassifier(
            rows=class_rows(
                problem.class_embeddings, Cache.from_problem(problem), network, point, second_relu=second_relu
            ),
            down=network["down"],
            up=network["up"],
            residual_ratio=point.residual_ratio,
            second_relu=second_relu,
            logit_scale=problem.logit_scale,
        )

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """See `TrainedMethod.pretrain_fold`."""
        self._network(split.problem, seed=seed, training_cache=training_cache)

    def _choose(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> ClipAdapterPoint:
        def swept(split: Split, points: Collection[ClipAdapterPoint]) -> Iterator[tuple[ClipAdapterPoint, Tensor]]:
            network = self._network(split.problem, seed=seed, training_cache=training_cache)
            return sweep(split, points, network, second_relu=self._settled(problem)["second_relu"])

        return select_point(self._grid(), problem, swept, default=self._default, seed=seed, folds=self.folds)

    def _network(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> State:
        settings = FeatureAdapterSettings(**self._settled(problem))
        name, train = "clip_adapter", train_bottleneck_on_shots
        if self.recipe == "published":
            settings = replace(settings, batch_size=PUBLISHED_BATCH_SIZE)
            name, train = "clip_adapter_published", train_bottleneck_as_published
        key = training_key(name, problem, seed=seed, **asdict(settings))
        return training_cache(key, lambda: train(problem, settings=settings, seed=seed))

    def _settled(self, problem: Problem) -> dict[str, Any]:
        """Values that follow from the recipe, those that are given kept."""
        published = self.recipe == "published"
        defaults = {
            "learning_rate": PUBLISHED_LEARNING_RATE if published else LEARNING_RATE,
            "steps": published_steps(len(problem.support)) if published else STEPS,
            "second_relu": published,
        }
        return {name: getattr(self, name) if getattr(self, name) is not None else defaults[name] for name in defaults}

    def _default(self, problem: Problem) -> ClipAdapterPoint:
        return ClipAdapterPoint(
            residual_ratio=DEFAULT_RATIO if self.residual_ratio is None else self.residual_ratio,
            image_weight=default_image_weight(problem) if self.image_weight is None else self.image_weight,
        )

    def _grid(self) -> list[ClipAdapterPoint]:
        """List the most zero-shot-like points first."""
        published = self.recipe == "published"
        ratios = RATIOS if not published else (PUBLISHED_RATIO,)
        weights = IMAGE_WEIGHTS if not published else (0.0,)
        ratios = ratios if self.residual_ratio is None else (self.residual_ratio,)
        weights = weights if self.image_weight is None else (self.image_weight,)
        return [ClipAdapterPoint(ratio, weight) for ratio, weight in product(ratios, weights)]
