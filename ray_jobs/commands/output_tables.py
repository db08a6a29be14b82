"""Tables of `status` and `report`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from ray_jobs.console.progress import Reporter
from ray_jobs.results.output_status import OutputReports, OutputStatus, RunStatus

RESUMABLE = "stopped; run again to resume"


def show_status(reporter: Reporter, status: OutputStatus) -> None:
    """Show the runs of an output."""
    if not status.runs:
        _say_nothing(reporter, "nothing has run yet", status.output, status.below)
        return
    table = Table("run", "state", "parts", "images", "process", title=status.output, title_justify="left")
    for run in status.runs:
        images = "?" if run.images is None else str(run.images)
        table.add_row(run.run, run.state, run.parts or "–", images, _process(run))
    reporter.console.print(table)
    for run in status.runs:
        if run.problem is not None:
            reporter.say(run.problem, style="yellow")


def _process(run: RunStatus) -> str:
    if run.process is not None or run.state in ("complete", "unreadable"):
        return run.process or "–"
    return RESUMABLE


def show_reports(reporter: Reporter, result: OutputReports) -> None:
    """Show where the reports of an output lie."""
    for report in result.reports:
        reporter.say(f"{report.run}: {report.path or 'no report could be written'}")
    if not result.reports:
        _say_nothing(reporter, "no run has finished", result.output, result.below)


def _say_nothing(reporter: Reporter, what: str, output: str, below: Sequence[str]) -> None:
    """Say that an output has nothing to show, and where there may be something."""
    reporter.say(f"{what} in {output}")
    for other in below:
        reporter.say(f"there is an output at {other}")
