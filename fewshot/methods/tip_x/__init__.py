"""Tip-X: Tip-Adapter, and images compared by their similarities to the class names."""

from fewshot.methods.tip_x.classifier import TipXClassifier
from fewshot.methods.tip_x.method import TipX

__all__ = ["TipX", "TipXClassifier"]
