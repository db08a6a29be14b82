"""MC-TI: a learned token for each class, trained to separate the classes."""

from fewshot.methods.mcti.method import Mcti

__all__ = ["Mcti"]
