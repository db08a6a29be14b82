"""How a diffusion scorer compares classes."""

from __future__ import annotations

from dataclasses import dataclass

from fewshot.diffusion.noise_errors import ErrorNorm
from fewshot.diffusion.time_grid import Spacing


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringSettings:
    """Settings of scoring.

    Attributes:
        spacing: of the time-steps.
        norm: of the noise errors.
    """

    spacing: Spacing = "by-weight"
    norm: ErrorNorm = "l2"
