"""Textual inversion as a method (Gal et al. 2022, arXiv 2208.01618): a class is the token that reconstructs its images.

It is the baseline of MC-TI. Nothing in its loss separates classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fewshot.methods.learned_tokens import TokenLearning


@dataclass(frozen=True, slots=True, kw_only=True)
class TextualInversion(TokenLearning):
    """Hyperparameters of textual inversion, see `TokenLearning`."""

    name: ClassVar[str] = "textual_inversion"
    gamma: ClassVar[float] = 0.0
