"""Nearest class mean, with the text as one more example of each class."""

from fewshot.methods.nearest_mean.method import NearestMean, NearestMeanClassifier

__all__ = ["NearestMean", "NearestMeanClassifier"]
