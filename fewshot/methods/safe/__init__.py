"""SAFE: the image tower's pooling layer tuned to the classes, blended with the frozen one."""

from fewshot.methods.safe.method import Safe, SafeClassifier

__all__ = ["Safe", "SafeClassifier"]
