"""From measured cells to tables: means and deviations over seeds, and the accuracy of each class."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from fewshot.evaluation.protocols import ProtocolName
from ray_jobs.results.cell_result import CellResult, ClassRow
from ray_jobs.results.evaluation_result import EvaluationRow
from ray_jobs.results.json_format import JsonObject

FORMULA = r"^[=+@\t\r-]"
"""The beginning of a text that spreadsheets calculate; the Parquet file beside the csv has it unchanged."""
MEASURES: dict[ProtocolName, tuple[str, ...]] = {
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
"""The measures of each protocol, the most important first."""
SHOWN: dict[str, dict[str, str]] = {
    "few-shot": {"accuracy": ""},
    "base-to-new": {
        "base_accuracy": ": base",
        "new_accuracy": ": new",
        "harmonic_mean": ": H",
        "harmonic_mean_of_draws": ": mean of H",
    },
    "generalized-zero-shot": {
        "seen_accuracy": ": seen",
        "unseen_accuracy": ": unseen",
        "harmonic_mean": ": H",
        "harmonic_mean_of_draws": ": mean of H",
    },
}
"""The measures in the table for people, with the text behind the number of shots in the title of the column."""
HALVES = {
    "base-to-new": ("base_accuracy", "new_accuracy"),
    "generalized-zero-shot": ("seen_accuracy", "unseen_accuracy"),
}
"""The accuracies in a harmonic mean."""


def mean_rows(cells: Iterable[CellResult], protocol: ProtocolName) -> list[EvaluationRow]:
    """Return mean and sample standard deviation over seeds (0 for one seed) of each method and number of shots.

    `harmonic_mean` is that of the mean accuracies, as most papers have it; `harmonic_mean_of_draws` is the mean of the
    harmonic means of the draws, which is at most as large.
    """
    return [_mean_row(method, shots, group, protocol) for (method, shots), group in _over_seeds(cells).items()]


def _mean_row(method: str, shots: int, group: Sequence[CellResult], protocol: ProtocolName) -> EvaluationRow:
    means = {name: _mean([cell.measures[name] for cell in group]) for name in MEASURES[protocol]}
    deviations = {name: _deviation([cell.measures[name] for cell in group]) for name in MEASURES[protocol]}
    if protocol in HALVES:
        means["harmonic_mean_of_draws"] = means["harmonic_mean"]
        deviations["harmonic_mean_of_draws"] = deviations["harmonic_mean"]
    halves = [mean for name in HALVES.get(protocol, ()) if (mean := means[name]) is not None]
    if len(halves) == 2:
        means["harmonic_mean"] = statistics.harmonic_mean(halves)
    return EvaluationRow(method=method, shots=shots, seeds=len(group), means=means, deviations=deviations)


def class_rows(cells: Iterable[CellResult], names: Sequence[str]) -> list[ClassRow]:
    """Return a row for each method, number of shots and class: mean and deviation of its accuracy over seeds.

    Args:
        cells: the measured cells.
        names: [K], of the classes.
    """
    return [
        ClassRow(
            method=method,
            shots=shots,
            label=name,
            accuracy_mean=_mean([cell.per_class_accuracy[label] for cell in group]),
            accuracy_std=_deviation([cell.per_class_accuracy[label] for cell in group]),
        )
        for (method, shots), group in _over_seeds(cells).items()
        for label, name in enumerate(names)
    ]


def _over_seeds(cells: Iterable[CellResult]) -> dict[tuple[str, int], list[CellResult]]:
    groups: dict[tuple[str, int], list[CellResult]] = defaultdict(list)
    for cell in cells:
        groups[cell.method, cell.shots].append(cell)
    return groups


def to_table(rows: Sequence[JsonObject]) -> pa.Table:
    """Return rows as a table, its columns in the order of the first row."""
    return pa.Table.from_pylist(list(rows))


def to_csv(table: pa.Table) -> bytes:
    """Return a table as a csv file. An apostrophe is put before a text that a spreadsheet would take for a formula."""
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
    """The table of an evaluation for people: a row for each method, a column for each number of shots and measure.

    Attributes:
        table: from `mean_rows`.
        protocol: determines the measures.
    """

    table: Sequence[EvaluationRow]
    protocol: ProtocolName

    @property
    def methods(self) -> list[str]:
        """Names of the rows, in the order of the table."""
        return list(dict.fromkeys(row.method for row in self.table))

    @cached_property
    def columns(self) -> dict[tuple[int, str], str]:
        """Number of shots and name of the measure, to the title of the column."""
        shots = sorted({row.shots for row in self.table})
        shown = product(shots, SHOWN[self.protocol].items())
        return {(count, name): f"{count} shot{'s' * (count > 1)}{title}" for count, (name, title) in shown}

    def mean(self, method: str, column: tuple[int, str]) -> float | None:
        """Return the mean over seeds, in [0, 1]; None where there is none."""
        row, name = self._rows.get((method, column[0])), column[1]
        return None if row is None else row.means.get(name)

    def text(self, method: str, column: tuple[int, str]) -> str:
        """Return mean ± deviation over seeds, in %; a dash where there is none."""
        mean = self.mean(method, column)
        if mean is None:
            return "–"
        deviation = self._rows[method, column[0]].deviations[column[1]] or 0.0
        return f"{100 * mean:.1f} ± {100 * deviation:.1f}"

    def is_best(self, method: str, column: tuple[int, str]) -> bool:
        """Return whether no method is better."""
        mean = self.mean(method, column)
        return mean is not None and mean == max(self.mean(other, column) or 0.0 for other in self.methods)

    @cached_property
    def _rows(self) -> dict[tuple[str, int], EvaluationRow]:
        return {(row.method, row.shots): row for row in self.table}


def to_markdown(grid: Grid) -> bytes:
    """Return the table for a document, the best of a column in bold."""

    def cell(method: str, column: tuple[int, str]) -> str:
        text = grid.text(method, column)
        return f"**{text}**" if grid.is_best(method, column) else text

    lines = [["method", *grid.columns.values()], ["---"] * (1 + len(grid.columns))]
    lines += [[f"`{method}`", *(cell(method, column) for column in grid.columns)] for method in grid.methods]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).encode()


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _deviation(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return (statistics.stdev(known) if len(known) > 1 else 0.0) if known else None
