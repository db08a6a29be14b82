"""How busy the stages of embedding were: which of them limits the rate, and what the others have left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from ray_jobs.results.json_format import JsonDocument, JsonValue

StageName = Literal["reading", "decoding", "device", "writing"]
STAGES: tuple[StageName, ...] = ("reading", "decoding", "device", "writing")
LEAST_SHARE = 0.5
"""A stage that is busy for less of the time is not said to limit the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLoad(JsonValue):
    """Shares, in [0, 1], of the time in which workers had images to embed.

    Attributes:
        reading: share of the time of units that they waited for their images to arrive.
        decoding: share that the threads that decode were at work, decoding.
        device: share that the model was at work.
        writing: share of the time of units that they encoded and committed their parts.
    """

    reading: float
    decoding: float
    device: float
    writing: float

    @classmethod
    def from_seconds(cls, busy_s: Mapping[str, float], *, units_s: float, threads: int) -> StageLoad | None:
        """Return the shares; None if no worker did anything.

        Args:
            busy_s: by stage, seconds of all workers, and "active", those in which a worker had units.
            units_s: seconds of all units, from start to commit: each of them reads and writes by itself.
            threads: threads of a worker that decode.
        """
        active = busy_s.get("active", 0.0)
        if active <= 0.0 or units_s <= 0.0:
            return None
        available_s = {"reading": units_s, "decoding": threads * active, "device": active, "writing": units_s}
        shares = {name: min(1.0, busy_s.get(name, 0.0) / seconds) for name, seconds in available_s.items()}
        return cls(**shares)

    @property
    def limit(self) -> StageName | None:
        """The busiest stage; None if none of them was busy for half of the time."""
        busiest = max(STAGES, key=self.share)
        return busiest if self.share(busiest) >= LEAST_SHARE else None

    def share(self, stage: StageName) -> float:
        """Return the share of a stage."""
        share: float = getattr(self, stage)
        return share

    def sentence(self) -> str:
        """Return what limited the rate, for people."""
        if self.limit is None:
            shares = ", ".join(f"{NAMES[stage]} {self.share(stage):.0%}" for stage in STAGES)
            return f"embedding: no stage was busy for half of the time ({shares})"
        model = f" ({NAMES['device']} {self.device:.0%})" if self.limit != "device" else ""
        return f"embedding was limited by {NAMES[self.limit]}, busy {self.share(self.limit):.0%} of the time{model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLoad(JsonDocument):
    """How busy the workers of a run were: its `load.json`, which is measured, unlike all other objects of a run.

    Attributes:
        embedding: in the last call that embedded something.
    """

    format_version: ClassVar[int] = 1
    embedding: StageLoad


NAMES: dict[StageName, str] = {
    "reading": "reading images",
    "decoding": "decoding",
    "device": "the model",
    "writing": "writing features",
}
