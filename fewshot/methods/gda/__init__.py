"""GDA: Bayes' rule for Gaussian classes with one covariance, beside the text."""

from fewshot.methods.gda.method import Gda

__all__ = ["Gda"]
