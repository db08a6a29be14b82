"""The methods, by name. A new one is a folder, an import and a line in `METHODS`; the contract tests find it there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from fewshot.errors import DataError, UnknownNameError
from fewshot.method import Classifier, Method, TrainedMethod, features_for
from fewshot.methods.ape import Ape
from fewshot.methods.ape_t import ApeT
from fewshot.methods.auto import Auto
from fewshot.methods.clip_adapter import ClipAdapter
from fewshot.methods.cocoop import Cocoop
from fewshot.methods.coop import Coop
from fewshot.methods.diffusion_classifier import DiffusionClassifier
from fewshot.methods.diffusion_scorer import DiffusionScorer
from fewshot.methods.hyperparameters import check_kind
from fewshot.methods.linear_probe import LinearProbe
from fewshot.methods.mcti import Mcti
from fewshot.methods.nearest_mean import NearestMean
from fewshot.methods.safe import Safe
from fewshot.methods.safe_a import SafeA
from fewshot.methods.ship import ShipClipAdapter, ShipCoop, ShipTipAdapterF
from fewshot.methods.textual_inversion import TextualInversion
from fewshot.methods.tif import Tif
from fewshot.methods.tip_adapter import TipAdapter
from fewshot.methods.tip_adapter_f import TipAdapterF
from fewshot.methods.tip_x import TipX
from fewshot.methods.zero_shot import ZeroShot

METHODS: dict[str, type[Any]] = {
    "ape": Ape,
    "ape_t": ApeT,
    "auto": Auto,
    "clip_adapter": ClipAdapter,
    "cocoop": Cocoop,
    "coop": Coop,
    "linear_probe": LinearProbe,
    "mcti": Mcti,
    "nearest_mean": NearestMean,
    "safe": Safe,
    "safe_a": SafeA,
    "ship_clip_adapter": ShipClipAdapter,
    "ship_coop": ShipCoop,
    "ship_tip_adapter_f": ShipTipAdapterF,
    "textual_inversion": TextualInversion,
    "tip_adapter": TipAdapter,
    "tip_adapter_f": TipAdapterF,
    "tip_x": TipX,
    "zero_shot": ZeroShot,
}


DIFFUSION_SCORERS: dict[str, type[DiffusionScorer]] = {"diffusion_classifier": DiffusionClassifier, "tif": Tif}
"""Methods that ask a diffusion model about an image."""


def build_method(name: str, **hyperparameters: Any) -> Method:
    """Make a method.

    Args:
        name: a name in `METHODS`.
        hyperparameters: values for some of its fields; the others keep their defaults.

    Raises:
        UnknownNameError: no such method.
        DataError: no such hyperparameter, or a value of another kind or out of its range.
    """
    method: Method = _made(METHODS, name, hyperparameters)
    return method


def build_diffusion_scorer(name: str, **hyperparameters: Any) -> DiffusionScorer:
    """Make a method of `DIFFUSION_SCORERS`, see `build_method`."""
    method: DiffusionScorer = _made(DIFFUSION_SCORERS, name, hyperparameters)
    return method


def _made(known_methods: Mapping[str, Any], name: str, hyperparameters: Mapping[str, Any]) -> Any:
    if name not in known_methods:
        raise UnknownNameError("method", name, known_methods)
    known = [field.name for field in dataclasses.fields(known_methods[name])]
    hints = get_type_hints(known_methods[name])
    for given, value in hyperparameters.items():
        if not known:
            raise DataError(f"{name} has no hyperparameters, got {given!r}")
        if given not in known:
            raise DataError(str(UnknownNameError(f"hyperparameter of {name}", given, known)))
        check_kind(f"{name}.{given}", value, hints[given])
    return known_methods[name](**hyperparameters)


__all__ = [
    "DIFFUSION_SCORERS",
    "METHODS",
    "Classifier",
    "DiffusionScorer",
    "Method",
    "TrainedMethod",
    "build_diffusion_scorer",
    "build_method",
    "features_for",
]
