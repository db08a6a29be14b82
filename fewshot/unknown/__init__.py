"""Images of no class: a test at a stated rate of known images lost, and published scores to compare it with."""

from fewshot.unknown.nearest_example import NearestExample
from fewshot.unknown.scores import energy, mahalanobis, nearest_row, residual_and_energy, unit_means

__all__ = [
    "NearestExample",
    "energy",
    "mahalanobis",
    "nearest_row",
    "residual_and_energy",
    "unit_means",
]
