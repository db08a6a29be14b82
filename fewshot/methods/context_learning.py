"""The base of `coop` and `cocoop`: one training, and two hyperparameters chosen after it on held-out shots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self, get_args

from torch import Tensor

from fewshot.backbones.text_tower import Position
from fewshot.methods.hyperparameters import check_choice, check_count, check_number
from fewshot.model_selection.cross_validation import Split
from fewshot.optimization.training_cache import State, TrainingCache, no_cache
from fewshot.problem import Problem
from fewshot.prompt_learning import ContextTrainingSettings, RowsPoint
from fewshot.prompt_learning.context_rows import choose_rows
from fewshot.prompt_learning.learning_rate import OptimizerName


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextLearning:
    """Hyperparameters of the learned rows; None is chosen inside the shots.

    Attributes:
        prompt_share: share of the learned rows beside the prompt prototypes, in [0, 1]; 1 as in the paper.
        image_weight: weight of the class mean beside its row, >= 0; 0 as in the paper.
    """

    name: ClassVar[str]
    folds: ClassVar[int] = 1

    prompt_share: float | None = None
    image_weight: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        name, settings = self.name, self.settings
        check_number(f"{name}.prompt_share", self.prompt_share, high=1.0)
        check_number(f"{name}.image_weight", self.image_weight)
        check_count(f"{name}.context", settings.context, low=1, high=1000)
        check_count(f"{name}.steps", settings.steps)
        check_number(f"{name}.learning_rate", settings.learning_rate, low=1e-9, high=1.0)
        check_count(f"{name}.batch_size", settings.batch_size, low=1)
        check_count(f"{name}.classes", settings.classes, low=2)
        check_choice(f"{name}.position", settings.position, get_args(Position))
        check_choice(f"{name}.optimizer", settings.optimizer, get_args(OptimizerName))

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return replace(self, **self.choose_shares(problem, seed=seed, training_cache=training_cache)._asdict())

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """See `TrainedMethod.pretrain_fold`."""
        self.trained(split.problem, seed=seed, training_cache=training_cache)

    def choose_shares(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> RowsPoint:
        """Choose the shares of the learned rows and of the class means; a value that is given is kept."""

        def learned(part: Problem) -> Tensor:
            return self.rows(part, self.trained(part, seed=seed, training_cache=training_cache))

        return choose_rows(
            problem,
            learned,
            prompt_share=self.prompt_share,
            image_weight=self.image_weight,
            folds=self.folds,
            seed=seed,
        )

    @property
    def settings(self) -> ContextTrainingSettings:
        """The settings of the training."""
        raise NotImplementedError

    def trained(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> State:
        """Return the trained tensors, the context among them, through the training cache."""
        raise NotImplementedError

    def rows(self, problem: Problem, state: State) -> Tensor:
        """Return the rows of the classes that trained tensors give, [K, D] float32, unit rows."""
        raise NotImplementedError
