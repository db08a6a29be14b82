"""Tables and messages about what has run: `status` and `report`, and submitted jobs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from ray_jobs.console.progress import Reporter
from ray_jobs.results.output_status import OutputReports, OutputStatus, RunStatus
from ray_jobs.results.submitted_jobs import JobList, SubmittedJob
from ray_jobs.results.verification import Verification

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


def show_verification(reporter: Reporter, result: Verification) -> None:
    """Show what is damaged, and the commands that repair it."""
    if not result.runs:
        _say_nothing(reporter, "nothing has run yet", result.output, result.below)
        return
    damaged = [(each.path, each.problem) for run in result.runs for each in run.damaged]
    width = max((len(path) for path, _ in damaged), default=0)
    for path, problem in damaged:  # No table of rich: it would break the paths.
        reporter.say(f"{path:{width}}  {problem}", style="red")
    objects = result.shared + sum(run.objects for run in result.runs)
    found = f"{len(damaged)} damaged or missing" if damaged else "all as they were written"
    reporter.say(f"{objects} objects of {len(result.runs)} runs, {result.bytes / 1e6:.1f} MB: {found}")
    for run in result.runs:
        if run.repair is not None:
            reporter.say(f"to make what is damaged of {run.run} anew: {run.repair}")


def _say_nothing(reporter: Reporter, what: str, output: str, below: Sequence[str]) -> None:
    """Say that an output has nothing to show, and where there may be something."""
    reporter.say(f"{what} in {output}")
    for other in below:
        reporter.say(f"there is an output at {other}")


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
