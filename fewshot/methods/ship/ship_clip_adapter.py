"""SHIP on top of CLIP-Adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fewshot.method import Need
from fewshot.methods.clip_adapter import ClipAdapter
from fewshot.methods.ship.shipped import Shipped


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipClipAdapter(Shipped, ClipAdapter):
    """Hyperparameters of SHIP and of CLIP-Adapter, see there."""

    name: ClassVar[str] = "ship_clip_adapter"
    summary: ClassVar[str] = "clip_adapter, with features made up for classes that have no example"
    needs: ClassVar[frozenset[Need]] = Shipped.needs | ClipAdapter.needs
    folds: ClassVar[int] = Shipped.folds
    plain: ClassVar[type[ClipAdapter]] = ClipAdapter
