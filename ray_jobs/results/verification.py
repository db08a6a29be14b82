"""What `fewshot verify` found, as it is printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ray_jobs.results.json_format import JsonObject, JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedObject(JsonValue):
    """A stored object that is not what was written, or is missing.

    Attributes:
        path: URL of the object.
        problem: what is wrong with it.
    """

    path: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRun(JsonValue):
    """A run whose objects were read.

    Attributes:
        run: name of its folder.
        objects: number of objects that it has to itself.
        damaged: those that are damaged, and damaged ones that it shares with other runs.
        repair: the command that makes them anew; None where nothing is damaged, or another version wrote the run.
    """

    run: str
    objects: int
    damaged: tuple[DamagedObject, ...]
    repair: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedLedger(JsonValue):
    """A ledger of labels that was read.

    Attributes:
        batches: number of batches of events.
        labels: number of images that have a label.
        damaged: batches that are damaged, and copies of labelled images that are missing. Nothing makes them anew.
    """

    batches: int
    labels: int
    damaged: tuple[DamagedObject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification(JsonValue):
    """What `fewshot verify` found.

    Attributes:
        output: URL of the output.
        runs: by name.
        shared: number of objects that runs share: features, samples of archives, classifiers, trainings, adapters,
            latents.
        bytes: length of everything that was read, without the ledger.
        ledger: the ledger of labels; None if the output has none.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"ledger"})
    output: str
    runs: tuple[VerifiedRun, ...]
    shared: int
    bytes: int
    ledger: VerifiedLedger | None = None

    @property
    def complete(self) -> bool:
        """Whether every object is there, and as it was written."""
        return not any(run.damaged for run in self.runs) and (self.ledger is None or not self.ledger.damaged)

    def to_json(self) -> JsonObject:
        """Return the fields, and whether they are complete."""
        return {"output": self.output, "complete": self.complete, **JsonValue.to_json(self)}
