"""Diffusion Classifier: the class name with which the noise of an image is predicted best."""

from fewshot.methods.diffusion_classifier.method import DiffusionClassifier

__all__ = ["DiffusionClassifier"]
