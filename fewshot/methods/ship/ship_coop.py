"""SHIP on top of CoOp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fewshot.methods.coop import Coop
from fewshot.methods.ship.synthesis import WithSyntheticShots


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipCoop(WithSyntheticShots, Coop):
    """Hyperparameters of SHIP and of CoOp, see `WithSyntheticShots` and `Coop`."""

    name: ClassVar[str] = "ship_coop"
    folds: ClassVar[int] = WithSyntheticShots.folds
    plain: ClassVar[type[Coop]] = Coop
