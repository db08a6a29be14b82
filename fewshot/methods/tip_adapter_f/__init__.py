"""Tip-Adapter-F: the cache of Tip-Adapter with trained keys."""

from fewshot.methods.tip_adapter_f.method import TipAdapterF

__all__ = ["TipAdapterF"]
