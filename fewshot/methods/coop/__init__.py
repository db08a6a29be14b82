"""CoOp."""

from fewshot.methods.coop.method import Coop, CoopClassifier

__all__ = ["Coop", "CoopClassifier"]
