"""Diffusion Classifier: which class's name explains the image best?"""

from fewshot.methods.diffusion_classifier.method import DiffusionClassifier

__all__ = ["DiffusionClassifier"]
