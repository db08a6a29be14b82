"""The methods, by name. Importing this imports no method and no torch; see `table`, `declarations` and `building`."""

from fewshot.methods.building import build_diffusion_scorer, build_method
from fewshot.methods.declarations import Hyperparameter, hyperparameters_of
from fewshot.methods.table import DIFFUSION_SCORERS, METHODS, MethodInfo, Paper, needs_of

__all__ = [
    "DIFFUSION_SCORERS",
    "METHODS",
    "Hyperparameter",
    "MethodInfo",
    "Paper",
    "build_diffusion_scorer",
    "build_method",
    "hyperparameters_of",
    "needs_of",
]
