"""SAFE-A: an adapter on the features of SAFE."""

from fewshot.methods.safe_a.method import SafeA, SafeAClassifier

__all__ = ["SafeA", "SafeAClassifier"]
