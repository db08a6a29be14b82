"""The base of `safe` and `safe_a`: hyperparameters of a tuned pooling layer that is blended with the frozen one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import ClassVar, get_args

from torch import Tensor

from fewshot.attention_pooling.blend import BLEND_ALPHAS, DEFAULT_BLEND_ALPHA, BlendKind, BlendPoint, sweep
from fewshot.attention_pooling.pool_training import PoolTrainingSettings, require_pooling, tune_pooling
from fewshot.key_value_cache.kernel import Cache
from fewshot.methods.hyperparameters import check_choice, check_count, check_number, values_for
from fewshot.model_selection.cross_validation import Split, select_point
from fewshot.optimization.shots import Shots
from fewshot.optimization.training_cache import State, TrainingCache, training_key
from fewshot.problem import Problem
from fewshot.prototypes import IMAGE_WEIGHTS, default_image_weight, with_means


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendedPooling:
    """Hyperparameters of SAFE; None is chosen inside the shots.

    Attributes:
        blend_alpha: share of the tuned layer, in [0, 1]; 0 and an image weight of 0 is zero-shot.
        image_weight: weight of the class mean beside its text, >= 0; 0 is the classifier of the paper.
        blend: whether features have unit length when they are blended ("normalized") or not ("raw").
        scope: the tensors of the layer that are tuned, see `Pooling.scopes`.
        target_weight: weight of the class means in the rows that are the targets of training, >= 0; 0 as in the paper.
        learning_rate: peak learning rate, see `fewshot.attention_pooling.pool_training.PoolTrainingSettings` for its
            schedule.
        epochs: passes over the examples, >= 0.
        max_steps: steps at most, however many examples there are.
        loss_temperature: divisor of the logits in the loss, > 0.
    """

    name: ClassVar[str]
    folds: ClassVar[int] = 2
    """Training on many shots takes a quarter of a minute of one core, and one fold of few shots is a coarse measure."""

    blend_alpha: float | None = None
    image_weight: float | None = None
    blend: BlendKind = "normalized"
    scope: str = "attn"
    target_weight: float = PoolTrainingSettings.target_weight
    learning_rate: float = PoolTrainingSettings.learning_rate
    epochs: int = PoolTrainingSettings.epochs
    max_steps: int = PoolTrainingSettings.max_steps
    loss_temperature: float = PoolTrainingSettings.loss_temperature

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_number(f"{self.name}.blend_alpha", self.blend_alpha, high=1.0)
        check_number(f"{self.name}.image_weight", self.image_weight)
        check_number(f"{self.name}.target_weight", self.target_weight)
        check_number(f"{self.name}.learning_rate", self.learning_rate, low=1e-9, high=1.0)
        check_count(f"{self.name}.epochs", self.epochs)
        check_count(f"{self.name}.max_steps", self.max_steps)
        check_number(f"{self.name}.loss_temperature", self.loss_temperature, low=1e-3, high=1e3)
        check_choice(f"{self.name}.blend", self.blend, get_args(BlendKind))

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """See `TrainedMethod.pretrain_fold`."""
        self.tuned(split.problem, seed=seed, training_cache=training_cache)

    def tuned(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> State:
        """Return the tuned tensors of the layer, trained through the training cache."""
        settings = self.settings

        def train() -> State:
            pooling, dense = require_pooling(problem)
            shots, targets = Shots.from_problem(problem), self.targets(problem)
            return tune_pooling(
                pooling,
                dense[shots.rows],
                shots.labels,
                targets[shots.classes],
                logit_scale=problem.logit_scale,
                settings=settings,
                seed=seed,
            )

        return training_cache(training_key("safe", problem, seed=seed, **asdict(settings)), train)

    def choose_blend(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> BlendPoint:
        """Choose the shares of the tuned layer and of the class means. Ties go to less of both."""

        def measure(split: Split, points: Collection[BlendPoint]) -> Iterator[tuple[BlendPoint, Tensor]]:
            return sweep(
                split, points, self.tuned(split.problem, seed=seed, training_cache=training_cache), kind=self.blend
            )

        return select_point(self._blends(), problem, measure, default=self._default_blend, seed=seed, folds=self.folds)

    def targets(self, problem: Problem) -> Tensor:
        """Return the rows that training moves features towards, [K, D] float32, unit rows."""
        cache = Cache.from_problem(problem)
        return with_means(problem.class_embeddings, cache.keys, cache.counts, image_weight=self.target_weight)

    @property
    def settings(self) -> PoolTrainingSettings:
        """Return the settings of the training."""
        return PoolTrainingSettings(**values_for(PoolTrainingSettings, self))

    def _blends(self) -> list[BlendPoint]:
        alphas = BLEND_ALPHAS if self.blend_alpha is None else (self.blend_alpha,)
        weights = IMAGE_WEIGHTS if self.image_weight is None else (self.image_weight,)
        return [BlendPoint(alpha, weight) for alpha, weight in product(alphas, weights)]

    def _default_blend(self, problem: Problem) -> BlendPoint:
        return BlendPoint(
            blend_alpha=DEFAULT_BLEND_ALPHA if self.blend_alpha is None else self.blend_alpha,
            image_weight=default_image_weight(problem) if self.image_weight is None else self.image_weight,
        )
