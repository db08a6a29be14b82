"""Checks that methods make on their hyperparameters when they are made, and how they pass them on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeVar

from fewshot.errors import DataError, UnknownNameError

T = TypeVar("T")


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


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Accept one of some names.

    Raises:
        DataError: for everything else; the message names the hyperparameter and what is known.
    """
    if value not in (names := tuple(known)):
        raise DataError(str(UnknownNameError(name, value, names)))


def check_template(name: str, template: object) -> None:
    """Accept text with exactly one "{}".

    Raises:
        DataError: for everything else.
    """
    if not isinstance(template, str) or template.count("{}") != 1:
        raise DataError(f"{name} needs exactly one {{}}, e.g. 'a picture of a {{}}', got {template!r}")


def values_for(kind: type[T], method: object) -> dict[str, Any]:
    """The hyperparameters of a method that are fields of another dataclass as well, to make that one with."""
    return {field.name: getattr(method, field.name) for field in fields(kind) if hasattr(method, field.name)}  # type: ignore[arg-type]
