"""Classes as Gaussians with one covariance: their sufficient statistics, and Bayes' rule for them."""

from fewshot.gaussian_classes.discriminant import Plane, discriminant, shrunk, within_class_covariance
from fewshot.gaussian_classes.statistics import ClassStatistics

__all__ = ["ClassStatistics", "Plane", "discriminant", "shrunk", "within_class_covariance"]
