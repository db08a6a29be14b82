"""What `auto` knows before it sees a shot: which method is simpler, and which is best with one or two shots a class.

Neither is read off the data sets that `auto` is reported on. `SIMPLEST_FIRST` follows from how a method learns. One or
two shots a class leave nothing to compare on, so accuracies elsewhere decide (`FEW_SHOT_ACCURACY`): those on the
independent sets of docs/choosing_methods.md, which served for nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

SIMPLEST_FIRST = (
    # One solution in closed form. The first is shrunk by a formula towards the next as shots become fewer, and contains
    # zero_shot: that it has a covariance more does not make it less stable. Then by the numbers that are chosen.
    "gda",
    "gda_u",
    "nearest_mean",
    "archive_nearest_mean",
    "zero_shot",
    "tip_adapter",
    "tip_x",
    "ape",
    # One optimum, which the optimiser reaches: K x D numbers, then D x D near the identity.
    "linear_probe",
    "archive_linear_probe",
    "rla",
    "archive_rla",
    # Stochastic gradient descent that stops before an optimum, by the numbers that are trained: K x Q + M for Q
    # channels, M x D for M shots, a network.
    "ape_t",
    "tip_adapter_f",
    "clip_adapter",
    # The same inside the image tower, inside the text tower, with synthetic features, through a diffusion model: by
    # cost.
    "safe",
    "safe_a",
    "coop",
    "cocoop",
    "ship_tip_adapter_f",
    "ship_clip_adapter",
    "ship_coop",
    "textual_inversion",
    "mcti",
)
"""All methods but auto, the simplest and most stable first."""

FEW_SHOT_ACCURACY: Mapping[int, Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        1: {
            "digits": {
                "gda": 48.6,
                "linear_probe": 48.6,
                "nearest_mean": 48.6,
                "rla": 48.1,
                "tip_adapter": 48.2,
                "tip_adapter_f": 48.2,
                "zero_shot": 9.5,
            },
            "emoji": {
                "gda": 37.9,
                "linear_probe": 39.1,
                "nearest_mean": 37.9,
                "rla": 38.2,
                "tip_adapter": 38.0,
                "tip_adapter_f": 38.0,
                "zero_shot": 19.1,
            },
            "solarcells": {
                "gda": 48.3,
                "linear_probe": 49.2,
                "nearest_mean": 48.3,
                "rla": 48.4,
                "tip_adapter": 48.3,
                "tip_adapter_f": 48.3,
                "zero_shot": 12.6,
            },
            "sprites": {
                "gda": 26.3,
                "linear_probe": 30.1,
                "nearest_mean": 26.2,
                "rla": 25.8,
                "tip_adapter": 25.8,
                "tip_adapter_f": 25.8,
                "zero_shot": 6.8,
            },
            "stamps": {
                "gda": 73.0,
                "linear_probe": 75.5,
                "nearest_mean": 73.2,
                "rla": 73.2,
                "tip_adapter": 80.6,
                "tip_adapter_f": 80.6,
                "zero_shot": 74.7,
            },
        },
        2: {
            "digits": {
                "gda": 63.0,
                "linear_probe": 60.9,
                "nearest_mean": 60.3,
                "rla": 62.4,
                "tip_adapter": 58.2,
                "tip_adapter_f": 36.1,
                "zero_shot": 9.5,
            },
            "emoji": {
                "gda": 40.0,
                "linear_probe": 46.7,
                "nearest_mean": 45.9,
                "rla": 48.3,
                "tip_adapter": 41.2,
                "tip_adapter_f": 40.9,
                "zero_shot": 19.1,
            },
            "solarcells": {
                "gda": 61.9,
                "linear_probe": 62.5,
                "nearest_mean": 58.2,
                "rla": 64.4,
                "tip_adapter": 58.3,
                "tip_adapter_f": 61.6,
                "zero_shot": 12.6,
            },
            "sprites": {
                "gda": 36.1,
                "linear_probe": 37.5,
                "nearest_mean": 34.5,
                "rla": 33.7,
                "tip_adapter": 30.8,
                "tip_adapter_f": 33.3,
                "zero_shot": 6.8,
            },
            "stamps": {
                "gda": 84.0,
                "linear_probe": 87.6,
                "nearest_mean": 84.2,
                "rla": 84.4,
                "tip_adapter": 83.3,
                "tip_adapter_f": 82.1,
                "zero_shot": 74.7,
            },
        },
    }
)
"""Shots a class -> independent set of docs/choosing_methods.md -> method -> mean accuracy in % of three draws, without
augmented views, of methods as `auto` builds them."""


def simplest_first(methods: Collection[str]) -> list[str]:
    """Sort names of methods by `SIMPLEST_FIRST`."""
    return sorted(methods, key=SIMPLEST_FIRST.index)


def few_shot_choice(methods: Sequence[str], *, shots: float) -> str:
    """Return the method with the best mean accuracy on data sets with as few shots a class.

    Args:
        methods: at least one, in any order. Those that were not measured are considered only if none was; then, as
            among equals, the simplest is returned.
        shots: mean number of shots of a class. Measured with the next smaller number, or else the smallest.
    """
    measured_shots = max((number for number in FEW_SHOT_ACCURACY if number <= shots), default=min(FEW_SHOT_ACCURACY))
    tables = FEW_SHOT_ACCURACY[measured_shots].values()
    measured = [name for name in simplest_first(methods) if all(name in accuracy for accuracy in tables)]
    if not measured:
        return simplest_first(methods)[0]
    return max(measured, key=lambda name: sum(accuracy[name] for accuracy in tables))
