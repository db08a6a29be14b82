"""SHIP on top of other methods: the only package of methods that imports others."""

from fewshot.methods.ship.method import ShipClipAdapter, ShipCoop, ShipTipAdapterF

__all__ = ["ShipClipAdapter", "ShipCoop", "ShipTipAdapterF"]
