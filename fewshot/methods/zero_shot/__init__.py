"""Zero-shot CLIP: labels from names alone."""

from fewshot.methods.zero_shot.method import ZeroShot, ZeroShotClassifier

__all__ = ["ZeroShot", "ZeroShotClassifier"]
