"""SHIP on top of other methods: the one package of methods that imports others."""

from fewshot.methods.ship.clip_adapter import ShipClipAdapter
from fewshot.methods.ship.coop import ShipCoop
from fewshot.methods.ship.tip_adapter_f import ShipTipAdapterF

__all__ = ["ShipClipAdapter", "ShipCoop", "ShipTipAdapterF"]
