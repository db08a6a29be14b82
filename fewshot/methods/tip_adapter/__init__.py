"""Tip-Adapter: the shots as a key-value cache beside the text."""

from fewshot.methods.tip_adapter.method import TipAdapter

__all__ = ["TipAdapter"]
