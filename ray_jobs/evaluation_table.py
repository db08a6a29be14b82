"""From measured cells to tables: means and deviations over seeds, and the accuracy of each class."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from ray_jobs.sections import ProtocolName

Row = Mapping[str, Any]
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


def mean_rows(rows: Iterable[Row], protocol: ProtocolName) -> list[dict[str, Any]]:
    """Mean and sample standard deviation over seeds (0 for one seed) of each method and number of shots.

    The mean of harmonic means is the harmonic mean of the mean accuracies, as papers have it.
    """
    groups: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["method"], row["shots"]].append(row)
    table = []
    for (method, shots), group in groups.items():
        entry: dict[str, Any] = {"method": method, "shots": shots, "seeds": len(group)}
        entry |= {f"{name}_mean": _mean([row[name] for row in group]) for name in NUMBERS[protocol]}
        entry |= {f"{name}_std": _deviation([row[name] for row in group]) for name in NUMBERS[protocol]}
        if protocol in HALVES:
            first, second = (entry[f"{name}_mean"] for name in HALVES[protocol])
            if first is not None and second is not None:
                entry["harmonic_mean_mean"] = 2 * first * second / (first + second) if first + second else 0.0
        table.append(entry)
    return table


def per_class_rows(rows: Iterable[Row], names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each method, number of shots and class: mean and deviation of its accuracy over seeds."""
    groups: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["method"], row["shots"]].append(row)
    return [
        {
            "method": method,
            "shots": shots,
            "class": name,
            "accuracy_mean": _mean([row["per_class_accuracy"][label] for row in group]),
            "accuracy_std": _deviation([row["per_class_accuracy"][label] for row in group]),
        }
        for (method, shots), group in groups.items()
        for label, name in enumerate(names)
    ]


def columns_of(rows: Sequence[Row]) -> pa.Table:
    """The rows as a table; columns in the order of the first row."""
    return pa.Table.from_pylist([dict(row) for row in rows])


def to_csv(table: pa.Table) -> bytes:
    """A table as a csv file."""
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(table, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def to_markdown(table: Sequence[Row], protocol: ProtocolName) -> bytes:
    """The table for a document: in %, mean ± deviation over seeds, the best of a column in bold."""
    shots = sorted({row["shots"] for row in table})
    columns = [(count, number) for count in shots for number in SHOWN[protocol]]
    cells = {(row["method"], row["shots"], number): row for row in table for number in SHOWN[protocol]}
    best = {
        (count, number): max((row[f"{number}_mean"] or 0.0 for row in table if row["shots"] == count), default=0.0)
        for count, number in columns
    }

    def cell(method: str, column: tuple[int, str]) -> str:
        row, number = cells.get((method, *column)), column[1]
        if row is None or row[f"{number}_mean"] is None:
            return "–"
        told = f"{100 * row[f'{number}_mean']:.1f} ± {100 * row[f'{number}_std']:.1f}"
        return f"**{told}**" if row[f"{number}_mean"] == best[column] else told

    titles = [f"{count} shot{'s' * (count > 1)}{SHOWN[protocol][number]}" for count, number in columns]
    lines = [["method", *titles], ["---"] * (1 + len(columns))]
    lines += [
        [f"`{name}`", *(cell(name, c) for c in columns)] for name in dict.fromkeys(row["method"] for row in table)
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).encode()


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _deviation(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return (statistics.stdev(known) if len(known) > 1 else 0.0) if known else None
