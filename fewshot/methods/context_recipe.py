"""Checks on the recipe that CoOp and CoCoOp share."""

from __future__ import annotations

from typing import get_args

from fewshot.backbones.text_tower import Position
from fewshot.errors import DataError, UnknownNameError
from fewshot.methods.hyperparameters import check_number
from fewshot.prompt_learning import ContextRecipe
from fewshot.prompt_learning.schedule import OptimizerName


def check_recipe(method: str, recipe: ContextRecipe) -> None:
    """Check the ranges, for the method whose hyperparameters these are.

    Raises:
        DataError: a value is out of its range; the message names the hyperparameter.
    """
    check_number(f"{method}.context", recipe.context, low=1)
    check_number(f"{method}.steps", recipe.steps)
    check_number(f"{method}.learning_rate", recipe.learning_rate, low=1e-9, high=1.0)
    check_number(f"{method}.batch_size", recipe.batch_size, low=1)
    check_number(f"{method}.classes", recipe.classes, low=2)
    _check_name(f"{method}.position", recipe.position, get_args(Position))
    _check_name(f"{method}.optimizer", recipe.optimizer, get_args(OptimizerName))


def _check_name(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise DataError(str(UnknownNameError(name, value, known)))
