"""APE-T: one trained residual a class, shared by its text and its shots."""

from fewshot.methods.ape_t.classifier import ApeTClassifier
from fewshot.methods.ape_t.method import ApeT

__all__ = ["ApeT", "ApeTClassifier"]
