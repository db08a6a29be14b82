"""SHIP on top of Tip-Adapter-F."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fewshot.methods.ship.synthesis import WithSyntheticShots
from fewshot.methods.tip_adapter_f import TipAdapterF


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipTipAdapterF(WithSyntheticShots, TipAdapterF):
    """Hyperparameters of SHIP and of Tip-Adapter-F, see `WithSyntheticShots` and `TipAdapterF`."""

    name: ClassVar[str] = "ship_tip_adapter_f"
    folds: ClassVar[int] = WithSyntheticShots.folds
    plain: ClassVar[type[TipAdapterF]] = TipAdapterF
