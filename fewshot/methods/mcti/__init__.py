"""MC-TI."""

from fewshot.methods.mcti.method import Mcti

__all__ = ["Mcti"]
