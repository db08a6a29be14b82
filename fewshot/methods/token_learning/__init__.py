"""Textual inversion and MC-TI: a learned token for each class."""

from fewshot.methods.token_learning.method import Mcti, TextualInversion

__all__ = ["Mcti", "TextualInversion"]
