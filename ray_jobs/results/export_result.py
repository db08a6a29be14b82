"""What `fewshot export` wrote, as it is printed, and as it lies in every exported folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ray_jobs.results.json_format import JsonObject, JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult(JsonValue):
    """What was exported.

    Attributes:
        format: name of the format.
        path: where it was written: URL, or absolute path.
        run: URL of the run's folder.
        rows: number of rows written.
        skipped: by filter, number of rows that it was the first to refuse.
        unreadable: number of rows that were left out because their images could not be read.
        unreadable_such_as: keys and reasons of the first few.
        formulas: texts that a spreadsheet would take for formulas; of csv alone.
        run_complete: whether the run has all its rows.
    """

    format: str
    path: str
    run: str
    rows: int
    skipped: Mapping[str, int]
    unreadable: int = 0
    unreadable_such_as: tuple[str, ...] = ()
    formulas: int = 0
    run_complete: bool = True

    @property
    def complete(self) -> bool:
        """Whether every row that was asked for was written."""
        return self.run_complete and not self.unreadable

    def to_json(self) -> JsonObject:
        """Return the fields, and whether they are complete."""
        return {"complete": self.complete, **JsonValue.to_json(self)}
