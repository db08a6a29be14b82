"""The result of a benchmark, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Gate:
    """An upper or lower bound of a number.

    Attributes:
        claim: the measured quantity and its bound, in words.
        value: the measured value.
        holds: whether it is within the bound.
    """

    claim: str
    value: float
    holds: bool

    @classmethod
    def at_most(cls, claim: str, value: float, bound: float) -> Gate:
        return cls(f"{claim} <= {bound:g}", value, value <= bound)

    @classmethod
    def at_least(cls, claim: str, value: float, bound: float) -> Gate:
        return cls(f"{claim} >= {bound:g}", value, value >= bound)


@dataclass(frozen=True, slots=True)
class Result:
    """One benchmark's table.

    Attributes:
        name: of the benchmark.
        title: what the rows show.
        rows: with equal keys; numbers are printed with three significant digits.
        gates: bounds of the numbers.
    """

    name: str
    title: str
    rows: Sequence[Mapping[str, str | float]]
    gates: Sequence[Gate] = ()

    def to_rich(self) -> Group:
        """Return the table and the gates for a terminal."""
        table = Table(title=self.title, title_justify="left")
        for column, value in self.rows[0].items():
            table.add_column(column, justify="left" if isinstance(value, str) else "right")
        for row in self.rows:
            table.add_row(*(digits(value) for value in row.values()))
        lines = [
            Text(f"{'holds ' if gate.holds else 'MISSED'} {gate.claim}: {digits(gate.value)}") for gate in self.gates
        ]
        return Group(table, *lines)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def digits(value: str | float) -> str:
    """Format a number with three significant digits."""
    if isinstance(value, str):
        return value
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def medians(samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each contender's samples."""
    return {name: median(values) for name, values in samples.items()}
