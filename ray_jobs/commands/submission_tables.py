"""Tables and messages about submitted jobs."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from ray_jobs.console.progress import Reporter


def show_jobs(reporter: Reporter, result: dict[str, Any]) -> None:
    """Show the jobs of a cluster as a table."""
    table = Table(title=result["address"], title_justify="left")
    table.add_column("job", no_wrap=True)
    for column in ("status", "seconds", "output"):
        table.add_column(column)
    for job in result["jobs"]:
        seconds = "–" if job["seconds"] is None else f"{job['seconds']:.0f}"
        table.add_row(job["submission"], job["status"].lower(), seconds, job["output"] or "–")
    reporter.console.print(table)


def show_submission(reporter: Reporter, result: dict[str, Any]) -> None:
    """Show the status of a job and how to follow it; of a job that was followed, the log has been shown."""
    job, address = result["submission"], result.get("address")
    if address is not None:
        reporter.say(
            f"{job} is {result['status'].lower()}. To follow it: fewshot logs {job} --follow --address {address}"
        )
