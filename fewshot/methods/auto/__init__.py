"""Auto: the best of several methods on held-out shots."""

from fewshot.methods.auto.method import Auto

__all__ = ["Auto"]
