"""Tables and messages about what has run: `status` and `report`, submitted jobs, and imported labels."""

from __future__ import annotations

import math
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from ray_jobs.commands.schedule_tables import summary
from ray_jobs.console.progress import Reporter
from ray_jobs.console.rate import IMAGES, rate_text
from ray_jobs.inputs.class_warnings import first_few
from ray_jobs.labels.label_table import ImportedLabels
from ray_jobs.report.markup import plural
from ray_jobs.results.output_status import OutputReports, OutputStatus, RunStatus
from ray_jobs.results.submitted_jobs import JobList, SubmittedJob
from ray_jobs.results.verification import Verification

STOPPED = "stopped"
_SHORT_S = 120


def show_status(reporter: Reporter, status: OutputStatus) -> None:
    """Show the runs of an output."""
    if not status.runs:
        _say_nothing(reporter, "nothing has run yet", status.output, status.below)
    else:
        _show_runs(reporter, status)
    for schedule in status.schedules:
        for line in summary(schedule):
            reporter.say(f"{schedule.command} of {schedule.job}, {schedule.cron}: {line}")


def _show_runs(reporter: Reporter, status: OutputStatus) -> None:
    table = Table("run", "state", "done", "parts", "images", title=status.output, title_justify="left")
    for run in status.runs:
        images = "?" if run.images is None else str(run.images)
        name = f"{run.run} (newest)" if run.newest and len(status.runs) > 1 else run.run
        table.add_row(name, _state(run), _share(run), run.parts or "–", images)
    reporter.console.print(table)
    for run in status.runs:
        if run.problem is not None:
            reporter.say(run.problem, style="yellow")
        elif run.running:
            reporter.say(f"{run.run}: {_work(run)}")
        elif run.resume is not None:
            reporter.say(f"{run.run}: {_stop(run)}. To go on: {run.resume}", style="yellow")
        if run.embedding is not None:
            reporter.say(f"{run.run}: {run.embedding.sentence()}")


def _state(run: RunStatus) -> str:
    return run.state if run.running or run.resume is None or run.state == "incomplete" else f"{run.state}, {STOPPED}"


def _share(run: RunStatus) -> str:
    return "–" if run.share is None else f"{math.floor(100 * run.share)} %"


def _work(run: RunStatus) -> str:
    """Return what the process of a run does, how fast, for how long, and when it was heard of."""
    rate = None if run.per_second is None else rate_text(run.per_second, run.unit or "")
    of_what = "" if run.state == "embedding" and run.unit == IMAGES else " of that"
    left = None if run.seconds_left is None else f"about {_duration(run.seconds_left)} left{of_what}"
    heard = None if run.sign_of_life_s is None else f"last sign of life {_duration(run.sign_of_life_s)} ago"
    return "; ".join(part for part in (run.doing, rate, left, run.process, heard) if part)


def _stop(run: RunStatus) -> str:
    """Return how a run has stopped, as far as that is known."""
    if run.state == "incomplete":
        return "some work has failed"
    heard = "" if run.sign_of_life_s is None else f", last sign of life {_duration(run.sign_of_life_s)} ago"
    return f"{STOPPED}{heard}" + (f" ({run.process})" if run.process else "")


def _duration(seconds: float) -> str:
    if seconds < _SHORT_S:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < _SHORT_S else f"{minutes / 60:.0f} h"


def show_reports(reporter: Reporter, result: OutputReports) -> None:
    """Show where the reports of an output lie."""
    for report in result.reports:
        reporter.say(f"{report.run}: {report.path or 'no report could be written'}")
        if report.classes is not None:
            reporter.say(f"its classes: {report.classes}")
    if not result.reports:
        _say_nothing(reporter, "no run has finished", result.output, result.below)


def open_newest(result: OutputReports, reporter: Reporter) -> None:
    """Open the report that was written last; where that is not possible, say why.

    Args:
        result: the reports of an output.
        reporter: says what was opened, or why nothing was.
    """
    paths = [report.path for report in result.reports if report.path is not None]
    local = [Path(path) for path in paths if "://" not in path]
    if paths and not local:
        reporter.say(
            f"--open: browsers open local files; copy the folder of {paths[-1]} to this machine", style="yellow"
        )
    if not local:
        return
    newest = max(local, key=lambda path: path.stat().st_mtime)
    if webbrowser.open(newest.as_uri()):
        reporter.say(f"opened {newest}")
    else:
        reporter.say(f"--open: no browser was found; open {newest}", style="yellow")


def show_verification(reporter: Reporter, result: Verification) -> None:
    """Show what is damaged, and the commands that repair it."""
    ledger = result.ledger
    found = [*(each for run in result.runs for each in run.damaged), *(ledger.damaged if ledger is not None else ())]
    damaged = [(each.path, each.problem) for each in found]
    width = max((len(path) for path, _ in damaged), default=0)
    for path, problem in damaged:  # No table of rich: it would break the paths.
        reporter.say(f"{path:{width}}  {problem}", style="red")
    objects = result.shared + sum(run.objects for run in result.runs)
    labels = "" if ledger is None else f", and a ledger of {plural(ledger.labels, 'label')}"
    runs = plural(len(result.runs), "run")
    state = f"{len(damaged)} damaged or missing" if damaged else "all as they were written"
    reporter.say(f"{plural(objects, 'object')} of {runs}, {result.bytes / 1e6:.1f} MB{labels}: {state}")
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


def show_import(reporter: Reporter, result: ImportedLabels) -> None:
    """Show what was imported, and what was not and why."""
    written = plural(result.written, "label")
    reporter.say(f"wrote {written} to {result.ledger}; it had {result.known} of the {result.rows} given")
    if result.replaced:
        reporter.say(f"{plural(result.replaced, 'of them replaces', 'of them replace')} a different answer")
    if result.repeated:
        reporter.say(f"{plural(result.repeated, 'of them is', 'of them are')} equal to an earlier answer")
    if result.new_classes:
        found = f"the run does not have {len(result.new_classes)} of the classes: {first_few(result.new_classes)}"
        reporter.say(f"{found}. Learning from these labels adds them; if they are misspelt, import the images again")
    if result.unanswered:
        reporter.say(f"{plural(result.unanswered, 'row has', 'rows have')} no answer")
    if result.not_found_count:
        missing = plural(result.not_found_count, "image is", "images are")
        found = f"{missing} not in the predictions of the newest run, such as"
        reporter.say(f"{found} {result.not_found[0]}; use the keys of its column image", style="yellow")
    if result.unreadable_count:
        found = f"{plural(result.unreadable_count, 'image')} cannot be read, and so not be learned from, such as"
        reporter.say(f"{found} {result.unreadable[0]}. Give them the answer unreadable", style="yellow")
