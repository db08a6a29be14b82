"""SHIP on top of other methods."""

from fewshot.methods.ship.method import ShipClipAdapter, ShipCoop, ShipTipAdapterF

__all__ = ["ShipClipAdapter", "ShipCoop", "ShipTipAdapterF"]
