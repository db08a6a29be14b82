"""From measured cells to tables: means and deviations over seeds, and the accuracy of each class."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from fewshot.evaluation.protocols import ProtocolName
from ray_jobs.results.evaluation_result import EvaluationRow

Row = Mapping[str, Any]
FORMULA = r"^[=+@\t\r-]"
"""How a text begins that spreadsheets calculate; the Parquet file beside the csv has it as it is."""
NUMBERS: dict[ProtocolName, tuple[str, ...]] = {
    "few-shot": ("accuracy", "macro_f1", "ece"),
    "base-to-new": ("base_accuracy", "new_accuracy", "harmonic_mean"),
    "generalized-zero-shot": (
        "seen_accuracy",
        "unseen_accuracy",
        "harmonic_mean",
        "accuracy",
        "macro_f1",
        "ece",
    ),
}
"""What is told of a cell under each protocol, the most telling first."""
SHOWN: dict[str, dict[str, str]] = {
    "few-shot": {"accuracy": ""},
    "base-to-new": {"base_accuracy": ": base", "new_accuracy": ": new", "harmonic_mean": ": H"},
    "generalized-zero-shot": {"seen_accuracy": ": seen", "unseen_accuracy": ": unseen", "harmonic_mean": ": H"},
}
"""What people look at first, with what follows the number of shots in a column's title."""
HALVES = {
    "base-to-new": ("base_accuracy", "new_accuracy"),
    "generalized-zero-shot": ("seen_accuracy", "unseen_accuracy"),
}


def mean_rows(rows: Iterable[Row], protocol: ProtocolName) -> list[EvaluationRow]:
    """Mean and sample standard deviation over seeds (0 for one seed) of each method and number of shots.

    The mean of harmonic means is the harmonic mean of the mean accuracies, as papers have it.
    """
    return [_mean_row(method, shots, group, protocol) for (method, shots), group in _over_seeds(rows).items()]


def _mean_row(method: str, shots: int, group: Sequence[Row], protocol: ProtocolName) -> EvaluationRow:
    means = {name: _mean([row[name] for row in group]) for name in NUMBERS[protocol]}
    deviations = {name: _deviation([row[name] for row in group]) for name in NUMBERS[protocol]}
    halves = [mean for name in HALVES.get(protocol, ()) if (mean := means[name]) is not None]
    if len(halves) == 2:
        means["harmonic_mean"] = statistics.harmonic_mean(halves)
    return EvaluationRow(method=method, shots=shots, seeds=len(group), means=means, deviations=deviations)


def per_class_rows(rows: Iterable[Row], names: Sequence[str]) -> list[Row]:
    """A row for each method, number of shots and class: mean and deviation of its accuracy over seeds."""
    return [
        {
            "method": method,
            "shots": shots,
            "class": name,
            "accuracy_mean": _mean([row["per_class_accuracy"][label] for row in group]),
            "accuracy_std": _deviation([row["per_class_accuracy"][label] for row in group]),
        }
        for (method, shots), group in _over_seeds(rows).items()
        for label, name in enumerate(names)
    ]


def _over_seeds(rows: Iterable[Row]) -> dict[tuple[str, int], list[Row]]:
    groups: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["method"], row["shots"]].append(row)
    return groups


def columns_of(rows: Sequence[Row]) -> pa.Table:
    """The rows as a table; columns in the order of the first row."""
    return pa.Table.from_pylist([dict(row) for row in rows])


def to_csv(table: pa.Table) -> bytes:
    """A table as a csv file. A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    sink = pa.BufferOutputStream()
    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            plain = pc.replace_substring_regex(table.column(index), FORMULA, r"'\0")
            table = table.set_column(index, field.name, plain)
    pa_csv.write_csv(table, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


@dataclass(frozen=True)
class Grid:
    """The table of an evaluation as people look at it: a row a method, a column a number of shots and what is told.

    Attributes:
        table: from `mean_rows`.
        protocol: says which numbers are told.
    """

    table: Sequence[EvaluationRow]
    protocol: ProtocolName

    @property
    def methods(self) -> list[str]:
        """The rows, as first named."""
        return list(dict.fromkeys(row.method for row in self.table))

    @cached_property
    def columns(self) -> dict[tuple[int, str], str]:
        """Number of shots and name of the number, with the title of the column."""
        shots = sorted({row.shots for row in self.table})
        shown = product(shots, SHOWN[self.protocol].items())
        return {(count, name): f"{count} shot{'s' * (count > 1)}{title}" for count, (name, title) in shown}

    def mean(self, method: str, column: tuple[int, str]) -> float | None:
        """A fraction, or None where there is none."""
        row, name = self._rows.get((method, column[0])), column[1]
        return None if row is None else row.means[name]

    def told(self, method: str, column: tuple[int, str]) -> str:
        """In %, mean ± deviation over seeds; a dash where there is none."""
        mean = self.mean(method, column)
        if mean is None:
            return "–"
        deviation = self._rows[method, column[0]].deviations[column[1]] or 0.0
        return f"{100 * mean:.1f} ± {100 * deviation:.1f}"

    def is_best(self, method: str, column: tuple[int, str]) -> bool:
        """Whether no method is better."""
        mean = self.mean(method, column)
        return mean is not None and mean == max(self.mean(other, column) or 0.0 for other in self.methods)

    @cached_property
    def _rows(self) -> dict[tuple[str, int], EvaluationRow]:
        return {(row.method, row.shots): row for row in self.table}


def to_markdown(grid: Grid) -> bytes:
    """The table for a document, the best of a column in bold."""

    def cell(method: str, column: tuple[int, str]) -> str:
        told = grid.told(method, column)
        return f"**{told}**" if grid.is_best(method, column) else told

    lines = [["method", *grid.columns.values()], ["---"] * (1 + len(grid.columns))]
    lines += [[f"`{method}`", *(cell(method, column) for column in grid.columns)] for method in grid.methods]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).encode()


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _deviation(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return (statistics.stdev(known) if len(known) > 1 else 0.0) if known else None
