"""TiF learner: adapters of a diffusion model for each class, read where nuanced attributes live."""

from fewshot.methods.tif.method import Tif

__all__ = ["Tif"]
