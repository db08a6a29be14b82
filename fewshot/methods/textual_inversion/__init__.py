"""Textual inversion: a learned token for each class."""

from fewshot.methods.textual_inversion.method import TextualInversion

__all__ = ["TextualInversion"]
