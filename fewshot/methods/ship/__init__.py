"""SHIP on top of other methods: the only package of methods that imports others."""

from fewshot.methods.ship.ship_clip_adapter import ShipClipAdapter
from fewshot.methods.ship.ship_coop import ShipCoop
from fewshot.methods.ship.ship_tip_adapter_f import ShipTipAdapterF

__all__ = ["ShipClipAdapter", "ShipCoop", "ShipTipAdapterF"]
