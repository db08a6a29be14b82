"""The methods, by name. Importing this package imports none of them and no torch (`table`, `building`)."""

from fewshot.methods.building import build_diffusion_scorer, build_method
from fewshot.methods.table import DIFFUSION_SCORERS, METHODS, MethodInfo, Paper, needs_of

__all__ = [
    "DIFFUSION_SCORERS",
    "METHODS",
    "MethodInfo",
    "Paper",
    "build_diffusion_scorer",
    "build_method",
    "needs_of",
]
