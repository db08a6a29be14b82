"""Checks that methods make on their hyperparameters when they are made."""

from __future__ import annotations

import math

from fewshot.errors import DataError


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
