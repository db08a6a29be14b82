"""Checks on the training settings that CoOp and CoCoOp share."""

from __future__ import annotations

from typing import get_args

from fewshot.backbones.text_tower import Position
from fewshot.methods.hyperparameters import check_choice, check_number
from fewshot.prompt_learning import ContextTrainingSettings
from fewshot.prompt_learning.learning_rate import OptimizerName


def check_settings(method: str, settings: ContextTrainingSettings) -> None:
    """Check the ranges of the hyperparameters of a method.

    Raises:
        DataError: a value is out of its range; the message names the hyperparameter.
    """
    check_number(f"{method}.context", settings.context, low=1)
    check_number(f"{method}.steps", settings.steps)
    check_number(f"{method}.learning_rate", settings.learning_rate, low=1e-9, high=1.0)
    check_number(f"{method}.batch_size", settings.batch_size, low=1)
    check_number(f"{method}.classes", settings.classes, low=2)
    check_choice(f"{method}.position", settings.position, get_args(Position))
    check_choice(f"{method}.optimizer", settings.optimizer, get_args(OptimizerName))
