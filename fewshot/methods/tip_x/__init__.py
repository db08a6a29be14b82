"""Tip-X: Tip-Adapter, and images compared by what the text says about them."""

from fewshot.methods.tip_x.classifier import TipXClassifier
from fewshot.methods.tip_x.method import TipX

__all__ = ["TipX", "TipXClassifier"]
