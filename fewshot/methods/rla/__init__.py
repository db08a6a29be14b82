"""RLA: one linear map of the image features for all classes, held near the identity."""

from fewshot.methods.rla.method import Rla, RlaClassifier

__all__ = ["Rla", "RlaClassifier"]
