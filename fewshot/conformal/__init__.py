"""Full conformal prediction: label sets that contain the true class with a stated probability."""

from fewshot.conformal.adaptation import ConformalExamples, label_sets, rejected_ranks

__all__ = ["ConformalExamples", "label_sets", "rejected_ranks"]
