"""What to label next: images that cover an archive, weighted by doubt, and images of rare classes."""

from fewshot.suggestion.herding import Herd, Sample, herd, median_radius
from fewshot.suggestion.next_labels import Pick, Reason, suggest
from fewshot.suggestion.rare_classes import LabelledRows, Leaders, hunting_quota, leaders

__all__ = [
    "Herd",
    "LabelledRows",
    "Leaders",
    "Pick",
    "Reason",
    "Sample",
    "herd",
    "hunting_quota",
    "leaders",
    "median_radius",
    "suggest",
]
