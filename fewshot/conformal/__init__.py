"""Full conformal prediction: label sets that contain the true class with a stated probability."""

from fewshot.conformal.adaptation import ConformalExamples
from fewshot.conformal.label_sets import label_sets, ranks_left_out

__all__ = ["ConformalExamples", "label_sets", "ranks_left_out"]
