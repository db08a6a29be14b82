"""Names that can be checked without loading torch. A test keeps them equal to the tables they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHOD_NAMES = (
    "ape",
    "ape_t",
    "auto",
    "clip_adapter",
    "cocoop",
    "coop",
    "linear_probe",
    "mcti",
    "nearest_mean",
    "safe",
    "safe_a",
    "ship_clip_adapter",
    "ship_coop",
    "ship_tip_adapter_f",
    "textual_inversion",
    "tip_adapter",
    "tip_adapter_f",
    "tip_x",
    "zero_shot",
)

DIFFUSION_SCORER_NAMES = ("diffusion_classifier", "tif")
"""Those that ask a diffusion model about an image, for [escalate]."""

DENSE_METHODS = ("safe", "safe_a")
"""Those that want what the image tower's last layer pools, which is stored with the features only if asked for."""


def wants_dense(method: str, hyperparameters: Mapping[str, Any]) -> bool:
    """Whether a method, or a candidate that `auto` is given, wants them."""
    return not {method, *hyperparameters.get("candidates", ())}.isdisjoint(DENSE_METHODS)


DIFFUSION_METHODS = ("mcti", "textual_inversion")
"""Those that learn with a diffusion model, which [diffusion] names."""


def wants_diffusion(method: str, hyperparameters: Mapping[str, Any]) -> bool:
    """Whether a method, or a candidate that `auto` is given, learns with a diffusion model."""
    return not {method, *hyperparameters.get("candidates", ())}.isdisjoint(DIFFUSION_METHODS)
