"""TiF learner: adapters of a diffusion model for each class, compared at the time-steps that lose nuances."""

from fewshot.methods.tif.method import Tif

__all__ = ["Tif"]
