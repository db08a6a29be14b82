"""The result of a cell of an evaluation: a method at a number of shots, on one draw of the examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ray_jobs.results.json_format import FORMAT_KEY, JsonDocument, JsonObject, JsonValue, to_plain


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult(JsonDocument):
    """A measured cell. Stored flat: the measures stand behind `seed`, each under its own name.

    Attributes:
        method: name of the method.
        shots: examples a class.
        seed: of the draw and of the method.
        measures: by name (see `ray_jobs.report.evaluation_table.MEASURES`), in [0, 1]; None where there is none.
        temperature: see `fewshot.calibration.temperature.Scaling`, like the next two.
        spread_power: how the temperature grows with the spread of the logits.
        least_spread: spread of the logits from which it grows.
        decided_by: name of the method that was chosen, for a method that chooses one.
        hyperparameters: all of the method's, as JSON text.
        held_out: measures on the held-out examples, as JSON text.
        labels_consumed: number of examples.
        test_images: number of test images that were read.
        per_class_accuracy: [K], in [0, 1]; None for a class without test images.
    """

    format_version: ClassVar[int] = 2
    method: str
    shots: int
    seed: int
    measures: Mapping[str, float | None]
    temperature: float
    spread_power: float
    least_spread: float
    decided_by: str
    hyperparameters: str
    held_out: str
    labels_consumed: int
    test_images: int
    per_class_accuracy: tuple[float | None, ...]

    def to_row(self) -> JsonObject:
        """Return the row of a table: the fields by name, the measures among them."""
        found: JsonObject = {}
        for item in fields(self):
            value = to_plain(getattr(self, item.name))
            found |= value if item.name == "measures" and isinstance(value, dict) else {item.name: value}
        return found

    def to_json(self) -> JsonObject:
        """Return the document, `format_version` first."""
        return {FORMAT_KEY: self.format_version, **self.to_row()}

    @classmethod
    def restructured(cls, content: JsonObject) -> JsonObject:
        """Gather the measures, which are stored flat."""
        names = {item.name for item in fields(cls)}
        measures = {name: value for name, value in content.items() if name not in names}
        return {name: value for name, value in content.items() if name in names} | {"measures": measures}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow(JsonValue):
    """A method at a number of shots on the test images of one class. Stored with `class` for `label`.

    Attributes:
        method: name of the method.
        shots: examples a class.
        label: of the class.
        accuracy_mean: over the draws, in [0, 1]; None without test images.
        accuracy_std: sample standard deviation; 0 for one draw, None without test images.
    """

    method: str
    shots: int
    label: str
    accuracy_mean: float | None
    accuracy_std: float | None

    def to_json(self) -> JsonObject:
        """Return the row."""
        row = JsonValue.to_json(self)
        return {("class" if name == "label" else name): value for name, value in row.items()}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ClassRow:
        """Return the row of a stored table."""
        return cls(**{("label" if name == "class" else name): value for name, value in row.items()})
