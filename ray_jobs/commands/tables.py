"""Results for people, on stderr; the same numbers go to stdout as JSON."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.table import Table

from ray_jobs.console.progress import Reporter
from ray_jobs.inputs import unreadable_examples as find_unreadable
from ray_jobs.inputs.ground_truth import unused_labels
from ray_jobs.report.evaluation_table import Grid


def show_classification(reporter: Reporter, metrics: dict[str, Any]) -> None:
    """What became of the archive, and where it lies."""
    table = Table(title=f"{metrics['images']} images, labelled by {metrics['method']}", title_justify="left")
    for column in ("status", "images", "share"):
        table.add_column(column, justify="left" if column == "status" else "right")
    for status in ("ok", "abstained", "unreadable"):
        table.add_row(status, str(metrics[status]), _percent(metrics[status] / max(1, metrics["images"])))
    reporter.console.print(table)
    if (threshold := metrics["threshold"]) is not None and threshold > 1:
        held_out = metrics["held_out"]
        reporter.say(
            f"every label is withheld: {held_out['images']} held-out examples cannot show of any score that at most"
            f" {_percent(held_out['max_error'])} of the labels above it are wrong; give more, or raise max_error",
            style="yellow",
        )
    if measured := metrics["measured"]:
        reporter.say(
            f"against the given labels ({measured['labelled_images']} images):"
            f" accuracy {_percent(measured['accuracy'])}, calibration error {_percent(measured['ece'])};"
            f" {_percent(measured['coverage'])} not abstained, at accuracy {_percent(measured['accuracy_of_accepted'])}"
        )
    for reason in unused_labels(metrics):
        reporter.say(reason, style="yellow")
    if escalated := metrics.get("escalated"):
        _show_escalation(reporter, escalated)
    if missing := find_unreadable.told(metrics):
        reporter.say(missing, style="yellow")
    if metrics["skipped_entries"]:
        names = ", ".join(metrics["skipped_examples"])
        reporter.say(f"{metrics['skipped_entries']} entries are no images by their names and were passed over: {names}")
    if metrics["failed_units"]:
        reporter.say(f"{metrics['failed_units']} units failed; run again to try them again", style="red")
    elif not metrics["complete"]:
        reporter.say("the archive changed while it was read; run again to label what is new", style="red")
    if metrics["too_many_unreadable"]:
        reporter.say("more images are unreadable than max_unreadable_fraction allows", style="red")
    reporter.say(f"predictions: {metrics['predictions']}")
    if metrics["report"]:
        reporter.say(f"to look at: {metrics['report']}")
    if metrics["unreadable"] or metrics["failed_units"]:
        reporter.say(f"what failed, and why: {metrics['run']}/failures.parquet")


def _show_escalation(reporter: Reporter, escalated: dict[str, Any]) -> None:
    saved = 1.0 - escalated["forwards"] / max(1, escalated["forwards_if_exhaustive"])
    reporter.say(
        f"{escalated['method']} was asked about {escalated['images']} images:"
        f" {escalated['decided_otherwise']} labels changed, {escalated['forwards']} forwards of the diffusion model"
        f" ({_percent(saved)} fewer than asking everything)"
    )
    if (calibration := escalated["exam"]) and calibration["images"]:
        reporter.say(
            f"accuracy of the diffusion model on {calibration['images']} held-out examples:"
            f" {_percent(calibration['accuracy'])}"
        )
    if measured := escalated["measured"]:
        reporter.say(
            f"accuracy {_percent(measured['accuracy_before'])} before, {_percent(measured['accuracy'])} after:"
            f" {measured['corrected']} labels corrected, {measured['spoiled']} spoiled"
        )


def show_demo(reporter: Reporter, result: dict[str, Any]) -> None:
    """A few predictions, the whole, and what to try next."""
    table = Table("picture", "label", "score", "truth", "verdict", title="a few of them", title_justify="left")
    for row in result["examples"]:
        if row["label"] is None:
            table.add_row(row["image"], "–", "–", "–", f"unreadable: {row['error']}")
        else:
            verdict = "right" if row["label"] == row["truth"] else "wrong"
            withheld = ", withheld" if row["status"] == "abstained" else ""
            table.add_row(row["image"], row["label"], f"{row['score']:.2f}", row["truth"], verdict + withheld)
    reporter.console.print(table)
    show_classification(reporter, result)
    reporter.say(f"try next: fewshot classify {result['job_file']} --set classifier.method=ape")
    reporter.say(f"          fewshot evaluate {Path(result['job_file']).with_name('evaluate.toml')}")
    reporter.say(f"your own pictures: copy {result['job_file']} and point [archive] and [support] at them")


def show_plan(reporter: Reporter, plan: dict[str, Any]) -> None:
    """What would run, and what it costs."""
    table = Table("stage", "what", "done", "left", title="plan (nothing was run)", title_justify="left")
    for stage in plan["stages"]:
        table.add_row(stage["stage"], stage["what"], str(stage["done"]), _left(stage))
    reporter.console.print(table)
    if (probe := plan["probe"]) is not None:
        reporter.say(
            f"the backbone embeds {probe['images_per_second']:.1f} images/s a worker on {probe['device']};"
            f" with {plan['workers']} workers about {probe['hours'] * 60:.1f} minutes"
        )

    if escalation := plan["escalation"]:
        reporter.say(_told_ahead(escalation))


def _left(stage: dict[str, Any]) -> str:
    left = "?" if stage["left"] is None else str(stage["left"])
    return f"at most {left}" if stage.get("at_most") else left


def _told_ahead(escalation: dict[str, Any]) -> str:
    if escalation["forwards"] is None:
        return "what asking the diffusion model costs is not known before the archive was read once"
    told = f"asking the diffusion model takes at most {escalation['forwards']:.0f} forwards"
    if escalation["hours"] is None:
        return told
    gpu = "a GPU" if escalation["gpu_hours"] else "a worker"
    return (
        f"{told}: {escalation['hours']:.2g} hours of {gpu},"
        f" at {escalation['forwards_a_second']:.1f} a second on {escalation['device']}"
    )


SHOWN_FRACTIONS = (0.0, 0.1, 0.2, 0.5, 1.0)
"""Shares of the images asked about that a table of cascades has a row for."""


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


def _say_nothing(reporter: Reporter, what: str, result: dict[str, Any]) -> None:
    """That an output has none of what was asked for, and where there may be some."""
    reporter.say(f"{what} in {result['output']}")
    for output in result["below"]:
        reporter.say(f"there is an output at {output}")


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


def show_reports(reporter: Reporter, result: dict[str, Any]) -> None:
    """Where the reports of an output lie."""
    for report in result["reports"]:
        reporter.say(f"{report['run']}: {report['path'] or 'no report could be written'}")
    if not result["reports"]:
        _say_nothing(reporter, "no run has come to its end", result)


def show_methods(reporter: Reporter, result: dict[str, Any]) -> None:
    """The methods."""
    for where, title in (("methods", "classifier.method"), ("escalate", "escalate.method")):
        table = Table("method", "what it does", "hyperparameters (default)", title=title, title_justify="left")
        for name, method in result[where].items():
            chosen = (f"{k} = {'chosen' if v is None else v}" for k, v in method["hyperparameters"].items())
            table.add_row(name, method["summary"], "\n".join(chosen))
        reporter.console.print(table)


def _percent(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def show_models(reporter: Reporter, result: dict[str, Any]) -> None:
    """The backbones."""
    table = Table("model", "pretrained")
    for model, tags in result["models"].items():
        table.add_row(model, ", ".join(tags) or "–")
    reporter.console.print(table)
