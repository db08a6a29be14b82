"""GDA: Bayes' rule for Gaussian classes with one covariance, beside the text."""

from fewshot.methods.gda.method import Gda, GdaClassifier

__all__ = ["Gda", "GdaClassifier"]
