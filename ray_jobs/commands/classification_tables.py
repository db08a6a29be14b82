"""Tables of `classify`, `plan` and `demo`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.table import Table

from ray_jobs.console.progress import Reporter
from ray_jobs.inputs.ground_truth import unused_labels
from ray_jobs.inputs.unreadable_examples import told as unreadable_summary


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
    if missing := unreadable_summary(metrics):
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


def _percent(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"
