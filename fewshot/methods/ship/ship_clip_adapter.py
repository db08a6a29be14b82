"""SHIP on top of CLIP-Adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fewshot.methods.clip_adapter import ClipAdapter
from fewshot.methods.ship.synthesis import WithSyntheticShots


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipClipAdapter(WithSyntheticShots, ClipAdapter):
    """Hyperparameters of SHIP and of CLIP-Adapter, see `WithSyntheticShots` and `ClipAdapter`."""

    name: ClassVar[str] = "ship_clip_adapter"
    folds: ClassVar[int] = WithSyntheticShots.folds
    plain: ClassVar[type[ClipAdapter]] = ClipAdapter
