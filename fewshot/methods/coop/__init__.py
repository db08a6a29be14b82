"""CoOp: learned words around the class names."""

from fewshot.methods.coop.method import Coop, CoopClassifier

__all__ = ["Coop", "CoopClassifier"]
