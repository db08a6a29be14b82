"""Full conformal prediction: label sets that contain the true class with a stated probability."""

from fewshot.conformal.adaptation import ConformalExamples, label_sets, rejected_ranks
from fewshot.conformal.label_set_rule import LabelSetRule

__all__ = ["ConformalExamples", "LabelSetRule", "label_sets", "rejected_ranks"]
