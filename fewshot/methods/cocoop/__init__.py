"""CoCoOp: learned prompts that depend on the image."""

from fewshot.methods.cocoop.classifier import CocoopClassifier
from fewshot.methods.cocoop.method import Cocoop

__all__ = ["Cocoop", "CocoopClassifier"]
