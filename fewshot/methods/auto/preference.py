"""What `auto` knows before it sees a shot: which method is simpler, and which is best with one shot a class.

Neither is read off the data sets that `auto` is reported on. `SIMPLEST_FIRST` follows from how a method learns. One or
two shots a class leave nothing to compare on, so accuracies elsewhere decide: `ONE_SHOT_ACCURACY` has them for each
data set, and the one whose method is chosen is left out.
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
    "zero_shot",
    "tip_adapter",
    "tip_x",
    "ape",
    # One optimum, which the optimiser reaches: K x D numbers, then D x D near the identity.
    "linear_probe",
    "rla",
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

ONE_SHOT_ACCURACY: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "grocery": {
            "gda": 34.6,
            "linear_probe": 37.1,
            "nearest_mean": 34.5,
            "rla": 35.2,
            "safe": 39.4,
            "safe_a": 39.4,
            "tip_adapter": 34.5,
            "tip_adapter_f": 34.5,
            "zero_shot": 8.1,
        },
        "signdigits": {
            "gda": 37.6,
            "linear_probe": 42.6,
            "nearest_mean": 37.6,
            "rla": 38.1,
            "safe": 43.7,
            "safe_a": 43.7,
            "tip_adapter": 38.1,
            "tip_adapter_f": 38.1,
            "zero_shot": 10.1,
        },
        "trashnet": {
            "gda": 52.4,
            "linear_probe": 53.2,
            "nearest_mean": 51.8,
            "rla": 51.5,
            "safe": 52.3,
            "safe_a": 52.3,
            "tip_adapter": 53.6,
            "tip_adapter_f": 53.6,
            "zero_shot": 44.2,
        },
    }
)
"""Data set -> method -> mean accuracy in % of three draws of one shot a class, without augmented views, of methods as
`auto` builds them (docs/evaluation.md). Whichever data set is left out, the same method is chosen."""


def simplest_first(methods: Collection[str]) -> list[str]:
    """Sort names of methods by `SIMPLEST_FIRST`."""
    return sorted(methods, key=SIMPLEST_FIRST.index)


def one_shot_choice(methods: Sequence[str], *, without: str | None = None) -> str:
    """Return the method with the best mean accuracy with one shot a class.

    Args:
        methods: at least one, in any order. Those that were not measured are considered only if none was; then, as
            among equals, the simplest is returned.
        without: the data set that the choice is for, which must not decide; None for one that is not in the table.
    """
    tables = [accuracy for name, accuracy in ONE_SHOT_ACCURACY.items() if name != without]
    measured = [name for name in simplest_first(methods) if all(name in accuracy for accuracy in tables)]
    if not measured:
        return simplest_first(methods)[0]
    return max(measured, key=lambda name: sum(accuracy[name] for accuracy in tables))
