"""APE: Tip-Adapter on refined channels, with shots weighted by how the text sees them."""

from fewshot.methods.ape.classifier import ApeClassifier
from fewshot.methods.ape.method import Ape

__all__ = ["Ape", "ApeClassifier"]
