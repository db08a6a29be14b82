"""Tables and messages about submitted jobs."""

from __future__ import annotations

from rich.table import Table

from ray_jobs.console.progress import Reporter
from ray_jobs.results.submitted_jobs import JobList, SubmittedJob


def show_jobs(reporter: Reporter, result: JobList) -> None:
    """Show the jobs of a cluster as a table."""
    table = Table(title=result.address, title_justify="left")
    table.add_column("job", no_wrap=True)
    for column in ("status", "seconds", "output"):
        table.add_column(column)
    for job in result.jobs:
        seconds = "–" if job.seconds is None else f"{job.seconds:.0f}"
        table.add_row(job.submission, job.status.lower(), seconds, job.output or "–")
    reporter.console.print(table)


def show_submission(reporter: Reporter, job: SubmittedJob) -> None:
    """Show the status of a job and how to follow it."""
    follow = f"fewshot logs {job.submission} --follow --address {job.address}"
    reporter.say(f"{job.submission} is {job.status.lower()}. To follow it: {follow}")
