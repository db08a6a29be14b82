"""Build methods from their names. What is built is imported when it is built, so importing this imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_type_hints

from fewshot.errors import DataError, UnknownNameError
from fewshot.methods.hyperparameters import check_kind
from fewshot.methods.table import DIFFUSION_SCORERS, METHODS, MethodInfo

if TYPE_CHECKING:
    from fewshot.method import DiffusionScorer, Method


def build_method(name: str, **hyperparameters: Any) -> Method:
    """Build a method that learns from features.

    Args:
        name: a name in `METHODS`.
        hyperparameters: values for some of its fields; the others keep their defaults.

    Raises:
        UnknownNameError: no such method.
        DataError: no such hyperparameter, or a value of another kind or out of its range.
    """
    method: Method = _build(METHODS, name, hyperparameters)
    return method


def changed_hyperparameters(method: Method) -> dict[str, Any]:
    """Return the hyperparameters of a method that differ from their defaults, by name."""
    values = ((field, getattr(method, field.name)) for field in dataclasses.fields(method))  # type: ignore[arg-type]
    return {field.name: value for field, value in values if value != field.default}


def build_diffusion_scorer(name: str, **hyperparameters: Any) -> DiffusionScorer:
    """Build a method that scores images with a diffusion model.

    Args:
        name: a name in `DIFFUSION_SCORERS`.
        hyperparameters: see `build_method`.

    Raises:
        UnknownNameError: no such method.
        DataError: no such hyperparameter, or a value of another kind or out of its range.
    """
    scorer: DiffusionScorer = _build(DIFFUSION_SCORERS, name, hyperparameters)
    return scorer


def _build(table: Mapping[str, MethodInfo], name: str, hyperparameters: Mapping[str, Any]) -> Any:
    if name not in table:
        raise UnknownNameError("method", name, table)
    kind = table[name].load()
    known = [field.name for field in dataclasses.fields(kind)]
    hints = get_type_hints(kind)
    for given, value in hyperparameters.items():
        if not known:
            raise DataError(f"{name} has no hyperparameters, got {given!r}")
        if given not in known:
            raise DataError(str(UnknownNameError(f"hyperparameter of {name}", given, known)))
        check_kind(f"{name}.{given}", value, hints[given])
    return kind(**hyperparameters)
