"""Checks of hyperparameters, made when a method is built, and how they are passed on to a recipe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

from fewshot.errors import DataError, UnknownNameError

T = TypeVar("T")
Recipe = Literal["default", "published"]
"""Whether hyperparameters that are not set take our values, or those of the authors' code."""
MAX_NUMBER = 1e30
"""Of hyperparameters without a range of their own: float32 ends at 3.4e38."""
MAX_COUNT = 1_000_000
"""Of steps, epochs, images and whatever else is counted. The longest published training has 100,000 steps (CLIP-Adapter
on ImageNet); a few zeros too many would take the memory of the machine, or years."""
MAX_RANK = 1024
"""Of adapters; the layers that they are added to are some hundreds to 1,280 wide."""


def check_kind(name: str, value: object, hint: Any) -> None:
    """Accept values of the annotated kind: a string, true or false, an integer, a list of strings.

    Other numbers are left to `check_number`, and the choice of a string to `check_choice`.

    Raises:
        DataError: for everything else; the message names the hyperparameter, the expected kind and the value.
    """
    kinds = get_args(hint) if NoneType in get_args(hint) else (hint,)
    if value is None and NoneType in kinds:
        return
    kind = get_origin(kinds[0]) or kinds[0]
    fits, expected = {
        bool: (isinstance(value, bool), "true or false"),
        int: (isinstance(value, int) and not isinstance(value, bool), "an integer"),
        str: (isinstance(value, str), "a string"),
        Literal: (isinstance(value, str), "a string"),
        tuple: (isinstance(value, list | tuple) and all(isinstance(part, str) for part in value), "a list of strings"),
    }.get(kind, (True, ""))
    if not fits:
        raise DataError(f"{name} must be {expected}, got {value!r}")


def check_number(name: str, value: object, *, low: float = 0.0, high: float = MAX_NUMBER) -> None:
    """Accept None (chosen inside the shots) and numbers in [low, high]; NaN is in no range.

    Raises:
        DataError: for everything else; the message names the hyperparameter, its range and the value.
    """
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and low <= value <= high):  # type: ignore[operator]
        raise DataError(f"{name} must be a number in [{low:g}, {high:g}], got {value!r:.80}")


def check_count(name: str, value: object, *, low: int = 0, high: int = MAX_COUNT) -> None:
    """Accept None (not set) and integers from low to high.

    Raises:
        DataError: for everything else; the message names the hyperparameter, its range and the value.
    """
    if value is None:
        return
    if not (isinstance(value, int) and not isinstance(value, bool) and low <= value <= high):
        raise DataError(f"{name} must be an integer from {low:,} to {high:,}, got {value!r:.80}")


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Accept one of some names.

    Raises:
        DataError: for everything else; the message names the hyperparameter and the known names.
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
    """Return the hyperparameters of a method that are fields of another dataclass, too, by name."""
    return {field.name: getattr(method, field.name) for field in fields(kind) if hasattr(method, field.name)}  # type: ignore[arg-type]
