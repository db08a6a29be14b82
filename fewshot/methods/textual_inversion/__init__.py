"""Textual inversion."""

from fewshot.methods.textual_inversion.method import TextualInversion

__all__ = ["TextualInversion"]
