"""The methods, by name. Importing this imports no method and no torch; see `table`, `declarations` and `building`.

`fewshot.methods()` lists the table, so this package can be called. A function of that name in `fewshot` would be
replaced by this package as soon as anything imports it.
"""

import sys
from types import ModuleType

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


class _MethodsPackage(ModuleType):
    def __call__(self) -> tuple[MethodInfo, ...]:
        """Return all methods with their family, summary, needs and paper; diffusion scorers last."""
        return (*METHODS.values(), *DIFFUSION_SCORERS.values())


sys.modules[__name__].__class__ = _MethodsPackage
