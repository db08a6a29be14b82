"""Names that a job file chooses from, importable without torch. Those of methods are in `fewshot.methods.table`."""

from __future__ import annotations

from typing import Literal

ProtocolName = Literal["few-shot", "base-to-new", "generalized-zero-shot"]
"""How a classifier is evaluated, see `fewshot.evaluation.protocols`."""

ScheduleName = Literal["racing", "published", "exhaustive"]
"""At how many time-steps a diffusion model scores the classes of an image: until the decision is statistically settled
(`fewshot.diffusion.racing`), in stages that drop classes (`fewshot.diffusion.elimination`), or at all of them."""
