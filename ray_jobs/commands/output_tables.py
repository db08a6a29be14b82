"""Tables of `status` and `report`."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from ray_jobs.console.progress import Reporter


def show_status(reporter: Reporter, status: dict[str, Any]) -> None:
    """The runs of an output."""
    if not status["runs"]:
        _say_nothing(reporter, "nothing has run yet", status)
        return
    table = Table("run", "state", "parts", "images", "by", title=status["output"], title_justify="left")
    for run in status["runs"]:
        images = "?" if run["images"] is None else str(run["images"])
        table.add_row(run["run"], run["state"], run["parts"], images, run["process"] or "nobody")
    reporter.console.print(table)


def show_reports(reporter: Reporter, result: dict[str, Any]) -> None:
    """Where the reports of an output lie."""
    for report in result["reports"]:
        reporter.say(f"{report['run']}: {report['path'] or 'no report could be written'}")
    if not result["reports"]:
        _say_nothing(reporter, "no run has come to its end", result)


def _say_nothing(reporter: Reporter, what: str, result: dict[str, Any]) -> None:
    """That an output has none of what was asked for, and where there may be some."""
    reporter.say(f"{what} in {result['output']}")
    for output in result["below"]:
        reporter.say(f"there is an output at {output}")
