"""What an evaluation amounts to: methods × shots × seeds, measured on a labelled set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from fewshot.evaluation.protocols import ProtocolName
from ray_jobs.results.json_format import Json, JsonDocument, JsonObject, JsonValue, to_plain

CascadeKind = Literal["cascade", "diffusion alone"]
_MEAN, _STD = "_mean", "_std"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRow(JsonValue):
    """A method at a number of shots. Stored flat: `accuracy_mean`, `accuracy_std` and so on beside the first three.

    Attributes:
        method: name of the method.
        shots: examples a class.
        seeds: draws of the examples that were measured.
        means: by name of the measure (see `ray_jobs.report.evaluation_table.MEASURES`), the mean over the draws, in
            [0, 1]; None where no draw has it.
        deviations: the sample standard deviations; 0 for one draw.
    """

    method: str
    shots: int
    seeds: int
    means: Mapping[str, float | None]
    deviations: Mapping[str, float | None]

    def to_json(self) -> JsonObject:
        """Return the row, flat."""
        means = {f"{name}{_MEAN}": to_plain(value) for name, value in self.means.items()}
        deviations = {f"{name}{_STD}": to_plain(value) for name, value in self.deviations.items()}
        return {"method": self.method, "shots": self.shots, "seeds": self.seeds, **means, **deviations}


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeRow(JsonValue):
    """Mean over the draws of a number of shots, of one cascade.

    Attributes:
        shots: examples a class.
        seeds: draws that were measured.
        what: "cascade", or "diffusion alone": every image, among all classes.
        fraction: share of the images that are escalated, in [0, 1]; at 0 the cheap method is alone.
        forwards_an_image: forwards of the UNet per image, training not counted.
        accuracy_mean: in [0, 1].
        accuracy_std: sample standard deviation; 0 for one draw.
    """

    shots: int
    seeds: int
    what: CascadeKind
    fraction: float
    forwards_an_image: float
    accuracy_mean: float
    accuracy_std: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeTable(JsonValue):
    """Accuracy against cost of a cheap method and a diffusion model.

    Attributes:
        cheap: name of the cheap method.
        method: name of the method that scores with the diffusion model.
        candidates: classes an image that the cascade scores, at most.
        rows: at rising fractions, for each number of shots.
    """

    cheap: str
    method: str
    candidates: int
    rows: tuple[CascadeRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult(JsonDocument):
    """What an evaluation amounts to: its `metrics.json`, written last.

    Attributes:
        title: of the table.
        protocol: name of the protocol.
        complete: whether every cell is in the table; if not, run the evaluation again.
        table: a row for each method and number of shots.
        cascades: what [escalate] is worth; None if no cascade was measured.
        failed_cells: parts of the cells that failed.
        files: by name, the digest of each table in the run's folder.
    """

    format_version: ClassVar[int] = 2
    title: str
    protocol: ProtocolName
    complete: bool
    table: tuple[EvaluationRow, ...]
    cascades: CascadeTable | None
    failed_cells: tuple[str, ...]
    files: Mapping[str, str]

    @classmethod
    def restructured(cls, content: JsonObject) -> JsonObject:
        """Gather the measures of each row of the table, which are stored flat."""
        table = content.get("table")
        return content if not isinstance(table, list) else content | {"table": [_gathered(row) for row in table]}


def _gathered(row: Json) -> Json:
    if not isinstance(row, dict):
        return row
    means = {name.removesuffix(_MEAN): value for name, value in row.items() if name.endswith(_MEAN)}
    deviations = {name.removesuffix(_STD): value for name, value in row.items() if name.endswith(_STD)}
    rest = {name: value for name, value in row.items() if not name.endswith((_MEAN, _STD))}
    return {**rest, "means": means, "deviations": deviations}
