"""GDA-U: Gaussian classes whose means learn from unlabelled images of the archive."""

from fewshot.methods.gda_u.method import GdaU

__all__ = ["GdaU"]
