"""APE: Tip-Adapter on selected channels, with more weight on examples that the text classifies badly."""

from fewshot.methods.ape.classifier import ApeClassifier
from fewshot.methods.ape.method import Ape

__all__ = ["Ape", "ApeClassifier"]
