"""Auto: whichever method does best on held-out shots."""

from fewshot.methods.auto.method import Auto

__all__ = ["Auto"]
