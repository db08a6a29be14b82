"""Tables of `evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from ray_jobs.console.progress import Reporter
from ray_jobs.report.evaluation_table import Grid
from ray_jobs.results.evaluation_result import CascadeRow, CascadeTable

if TYPE_CHECKING:
    from ray_jobs.evaluation.evaluate import FinishedEvaluation

SHOWN_FRACTIONS = (0.0, 0.1, 0.2, 0.5, 1.0)
"""Shares of the escalated images that a table of cascades has a row for."""


def show_evaluation(reporter: Reporter, finished: FinishedEvaluation) -> None:
    """Show every method at each number of shots, mean ± standard deviation over seeds."""
    result = finished.result
    grid = Grid(result.table, result.protocol)
    table = Table("method", *grid.columns.values(), title=result.title, title_justify="left")
    for method in grid.methods:
        table.add_row(method, *(grid.text(method, column) for column in grid.columns))
    reporter.console.print(table)
    if result.cascades is not None:
        reporter.console.print(_cascades(result.cascades))
    if finished.seconds:
        spent = ", ".join(f"{method} {seconds:.0f} s" for method, seconds in finished.seconds.items())
        reporter.say(f"time spent in this run, all cells of a method together: {spent}")
    reporter.say(f"table, accuracy by class, cells and settings: {finished.run.url}")
    if finished.report is not None:
        reporter.say(f"report: {finished.report}")


def _cascades(cascades: CascadeTable) -> Table:
    """Return a table of some points of each curve."""
    title = f"{cascades.cheap}, then {cascades.method} on the least certain images"
    table = Table("shots", "escalated", "forwards an image", "accuracy", title=title, title_justify="left")
    for row in cascades.rows:
        if row.what != "cascade" or row.fraction in SHOWN_FRACTIONS:
            accuracy = f"{100 * row.accuracy_mean:.1f} ± {100 * row.accuracy_std:.1f}"
            table.add_row(str(row.shots), _escalated(row, cascades), f"{row.forwards_an_image:.1f}", accuracy)
    return table


def _escalated(row: CascadeRow, cascades: CascadeTable) -> str:
    if row.what != "cascade":
        return f"all, every class: {cascades.method} alone"
    return f"none: {cascades.cheap} alone" if row.fraction == 0 else f"{100 * row.fraction:.0f} %"
