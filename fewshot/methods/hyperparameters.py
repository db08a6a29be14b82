"""Checks that methods make on their hyperparameters when they are made."""

from __future__ import annotations

import math
from typing import get_args

from fewshot.blended import Blending, BlendKind
from fewshot.errors import DataError, UnknownNameError


def check_number(name: str, value: object, *, low: float = 0.0, high: float = math.inf) -> None:
    """Accept None (chosen inside the shots) and finite numbers in [low, high].

    Raises:
        DataError: for everything else; the message names the hyperparameter, its range and what it got.
    """
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and low <= value <= high):  # type: ignore[arg-type, operator]
        upper = f"{high:g}]" if math.isfinite(high) else "inf)"
        raise DataError(f"{name} must be a number in [{low:g}, {upper}, or None to choose it, got {value!r}")


def check_blending(method: str, blending: Blending) -> None:
    """Accept the hyperparameters that methods with a tuned pooling layer share.

    Raises:
        DataError: one is out of its range.
    """
    recipe = blending.recipe
    check_number(f"{method}.blend_alpha", blending.blend_alpha, high=1.0)
    check_number(f"{method}.image_weight", blending.image_weight)
    check_number(f"{method}.target_weight", recipe.target_weight)
    check_number(f"{method}.learning_rate", recipe.learning_rate, low=1e-9, high=1.0)
    check_number(f"{method}.epochs", recipe.epochs)
    check_number(f"{method}.max_steps", recipe.max_steps)
    check_number(f"{method}.loss_temperature", recipe.loss_temperature, low=1e-3, high=1e3)
    if blending.kind not in get_args(BlendKind):
        raise DataError(str(UnknownNameError(f"{method}.blend", blending.kind, get_args(BlendKind))))
