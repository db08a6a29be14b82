"""Images of no class: a test at a stated rate of known images lost, and published scores to compare it with."""

from fewshot.unknown.decisions import Decisions, UnknownTest
from fewshot.unknown.nearest_example import NearestExample
from fewshot.unknown.saved_examples import load_examples, save_examples
from fewshot.unknown.scores import energy, mahalanobis, nearest_row, residual_and_energy, unit_means

__all__ = [
    "Decisions",
    "NearestExample",
    "UnknownTest",
    "energy",
    "load_examples",
    "mahalanobis",
    "nearest_row",
    "residual_and_energy",
    "save_examples",
    "unit_means",
]
