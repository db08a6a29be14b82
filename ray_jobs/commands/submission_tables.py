"""Tables of submitted jobs."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from ray_jobs.console.progress import Reporter


def show_jobs(reporter: Reporter, result: dict[str, Any]) -> None:
    """The jobs of a cluster."""
    table = Table(title=result["address"], title_justify="left")
    table.add_column("job", no_wrap=True)
    for column in ("status", "seconds", "output"):
        table.add_column(column)
    for job in result["jobs"]:
        seconds = "–" if job["seconds"] is None else f"{job['seconds']:.0f}"
        table.add_row(job["submission"], job["status"].lower(), seconds, job["output"] or "–")
    reporter.console.print(table)


def show_submission(reporter: Reporter, result: dict[str, Any]) -> None:
    """How a job on a cluster stands; one that was waited for has told everything already."""
    job, address = result["submission"], result.get("address")
    if address is not None:
        reporter.say(
            f"{job} is {result['status'].lower()}; to follow it: fewshot logs {job} --follow --address {address}"
        )
