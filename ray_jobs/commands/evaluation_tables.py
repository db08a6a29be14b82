"""Tables of `evaluate`."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from ray_jobs.console.progress import Reporter
from ray_jobs.report.evaluation_table import Grid

SHOWN_FRACTIONS = (0.0, 0.1, 0.2, 0.5, 1.0)
"""Shares of the escalated images that a table of cascades has a row for."""


def show_evaluation(reporter: Reporter, result: dict[str, Any]) -> None:
    """Every method at each number of shots, mean ± standard deviation over seeds."""
    grid = Grid(result["table"], result["protocol"])
    table = Table("method", *grid.columns.values(), title=result["title"], title_justify="left")
    for method in grid.methods:
        table.add_row(method, *(grid.told(method, column) for column in grid.columns))
    reporter.console.print(table)
    if result["cascades"] is not None:
        reporter.console.print(_cascades(result["cascades"]))
    if result["seconds"]:
        spent = ", ".join(f"{method} {seconds:.0f} s" for method, seconds in result["seconds"].items())
        reporter.say(f"time spent now, all cells of a method together: {spent}")
    reporter.say(f"table, accuracy by class, cells and settings: {result['run']}")
    reporter.say(f"to look at: {result['report']}")


def _cascades(told: dict[str, Any]) -> Table:
    """Some points of each curve."""
    title = f"{told['cheap']}, then {told['method']} on the least certain images"
    table = Table("shots", "asked about", "forwards an image", "accuracy", title=title, title_justify="left")
    for row in told["rows"]:
        cheap, alone = row["fraction"] == 0, row["what"] != "cascade"
        if alone or row["fraction"] in SHOWN_FRACTIONS:
            who = f"none: {told['cheap']} alone" if cheap else f"{100 * row['fraction']:.0f} %"
            who = f"all, among all classes: {told['method']} alone" if alone else who
            accuracy = f"{100 * row['accuracy_mean']:.1f} ± {100 * row['accuracy_std']:.1f}"
            table.add_row(str(row["shots"]), who, f"{row['forwards_an_image']:.1f}", accuracy)
    return table
