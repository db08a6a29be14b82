"""Tables of `classify`, `plan` and `demo`."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from ray_jobs.classification.labelled_shares import rounded_up, shares_sentence, shortage
from ray_jobs.commands.init_tables import show_classes
from ray_jobs.console.progress import Reporter
from ray_jobs.inputs.ground_truth import unused_labels
from ray_jobs.inputs.unreadable_examples import unreadable_summary
from ray_jobs.output.layout import FAILURES
from ray_jobs.report import label_set_words
from ray_jobs.report.failures import read_reasons
from ray_jobs.report.markup import plural, skipped_entries
from ray_jobs.results.classification_metrics import ClassificationMetrics, HeldOut
from ray_jobs.results.cost_plan import BackboneFacts, BlockMemory, CostPlan, EscalationCost, PlannedStage
from ray_jobs.results.error_limits import ErrorLimitPlan, LabelledShare
from ray_jobs.results.escalation_summary import EscalationSummary

if TYPE_CHECKING:
    from ray_jobs.classification.classify import FinishedClassification
    from ray_jobs.commands.demo import DemoRow, FinishedDemo


def show_classification(reporter: Reporter, result: FinishedClassification) -> None:
    """Show what became of the archive, and where the results lie."""
    metrics = result.metrics
    table = Table(title=f"{metrics.images} images, labelled by {metrics.method}", title_justify="left")
    for column in ("status", "images", "share"):
        table.add_column(column, justify="left" if column == "status" else "right")
    for status in metrics.statuses:
        count = metrics.count(status)
        table.add_row(status, str(count), _percent(count / max(1, metrics.images)))
    reporter.console.print(table)
    _show_quality(reporter, metrics)
    if metrics.escalated is not None:
        _show_escalation(reporter, metrics.escalated)
    _show_trouble(reporter, metrics)
    if 0 < metrics.images == metrics.unreadable:
        reporter.say(_none_readable(result), style="red")
    elif metrics.too_many_unreadable:
        reporter.say("more images are unreadable than max_unreadable_fraction allows", style="red")
    reporter.say(f"predictions: listed in {result.predictions}")
    if result.report:
        reporter.say(f"report: {result.report}")
    if metrics.unreadable or metrics.failed_units:
        reporter.say(f"what failed, and why: {result.run.url}/{FAILURES}")


def _show_quality(reporter: Reporter, metrics: ClassificationMetrics) -> None:
    held_out, measured = metrics.held_out, metrics.measured
    if metrics.unknown is not None:
        reporter.say(metrics.unknown.sentence())
    if metrics.label_sets is not None:
        reporter.say(label_set_words.found(metrics.label_sets))
        reporter.say(label_set_words.promise(metrics.label_sets))
    elif metrics.audited is not None:
        reporter.say(metrics.audited.sentence(), style=None if metrics.audited.threshold is not None else "yellow")
    elif metrics.threshold is None:
        reporter.say(_expected_error(held_out, is_tested=metrics.unknown is not None))
    elif metrics.threshold > 1:
        reporter.say(_all_abstained(held_out), style="yellow")
    if held_out.images and metrics.label_sets is None:
        reporter.console.print(_shares_table(metrics.labelled_shares, held_out))
    if measured is not None:
        labelled = "not abstained" if metrics.unknown is None else "neither abstained nor unknown"
        reporter.say(
            f"against the given labels ({measured.labelled_images} images):"
            f" accuracy {_percent(measured.accuracy)}, calibration error {_percent(measured.ece)};"
            f" {_percent(measured.coverage)} {labelled}, at accuracy {_percent(measured.accuracy_of_accepted)}"
        )
    if metrics.audit is not None:
        reporter.say(metrics.audit.sentence())
    for reason in unused_labels(metrics.given_labels, is_tested=metrics.unknown is not None):
        reporter.say(reason, style="yellow")


def _expected_error(held_out: HeldOut, *, is_tested: bool = False) -> str:
    """What is known of the error rate where no label is withheld; `is_tested`: but those of unknown images."""
    which = "Every readable image that is not unknown" if is_tested else "Every readable image"
    if (expected := held_out.expected_accuracy) is None:
        unknown = "How many are wrong is unknown: no example could be held out."
        return f"{which} has a label, and none a score. {unknown}"
    too_high = (
        " This is rather too high: with one example a class, the class of a held-out one has only its name. So no label"
        " has a score; margins sort images by certainty."
    )
    return (
        f"{which} has a label. Expected error rate: {_percent(1.0 - expected)} on"
        f" {held_out.images} held-out examples, at most {_percent(held_out.error_bound)} with"
        f" {_percent(held_out.confidence)} confidence.{too_high if held_out.source == 'text' else ''}"
        f"{_flattered(held_out)}"
    )


def _flattered(held_out: HeldOut) -> str:
    """What hyperparameters that were chosen on the same examples make of it, where that is another number."""
    if held_out.accuracy is None or held_out.accuracy == held_out.expected_accuracy:
        return ""
    return f" On the examples that hyperparameters were chosen on: {_percent(1.0 - held_out.accuracy)}."


def _shares_table(shares: Sequence[LabelledShare], held_out: HeldOut) -> Table:
    title = f"share that would be labelled, with {_percent(held_out.confidence)} confidence in max_error"
    table = Table(title=title, title_justify="left")
    for column in ("max_error", "held-out examples needed", f"of the {held_out.images} held out", "of the archive"):
        table.add_column(column, justify="right")
    for share in shares:
        parts = (_percent(share.held_out_share), _percent(share.archive_share))
        table.add_row(f"{share.max_error:g}", str(share.needed), *parts)
    return table


def _all_abstained(held_out: HeldOut) -> str:
    from fewshot.calibration.abstention import fewest_images

    rate = _percent(held_out.max_error)
    fewest = fewest_images(held_out.max_error or 0.0, confidence=held_out.confidence or 0.0)
    if held_out.images >= fewest:
        right = f"{_percent(held_out.expected_accuracy)} of {held_out.images} held-out examples are labelled right"
        return (
            f"All predictions abstained: {right}, and no threshold keeps the error rate below {rate}. Add examples, try"
            " another method, or raise max_error."
        )
    return (
        f"All predictions abstained: {held_out.images} held-out examples cannot guarantee an error rate of {rate}. Add"
        f" examples (at least {fewest} held-out ones, all labelled right) or raise max_error."
    )


def _show_trouble(reporter: Reporter, metrics: ClassificationMetrics) -> None:
    if missing := unreadable_summary(metrics.unreadable_examples):
        reporter.say(missing, style="yellow")
    if metrics.skipped_entries:
        names = ", ".join(metrics.skipped_examples)
        reporter.say(f"{skipped_entries(metrics.skipped_entries)}: {names}")
    if metrics.failed_units:
        reporter.say(f"{plural(metrics.failed_units, 'unit')} failed; run again to try again", style="red")
    elif not metrics.complete:
        reporter.say("the archive changed while it was read; run again to label what is new", style="red")


def _none_readable(result: FinishedClassification) -> str:
    reasons = read_reasons(result.run.store, result.run.folder)
    images = result.metrics.images
    such = f", mostly such as {reasons[0].examples[0].image}: {reasons[0].text}" if reasons else ""
    return f"every image is unreadable: {images} of {images}{such}; check [archive] uri"


def _show_escalation(reporter: Reporter, escalated: EscalationSummary) -> None:
    saved = 1.0 - escalated.forwards / max(1, escalated.forwards_if_exhaustive)
    reporter.say(
        f"{escalated.method} scored {escalated.images} images: {escalated.labels_changed} labels changed,"
        f" {escalated.forwards} forwards of the diffusion model ({_percent(saved)} fewer than scoring every candidate"
        " at every time-step)"
    )
    if (calibration := escalated.calibration) is not None and calibration.images:
        reporter.say(
            f"accuracy of the diffusion model on {calibration.images} held-out examples:"
            f" {_percent(calibration.accuracy)}"
        )
    if (measured := escalated.measured) is not None:
        reporter.say(
            f"accuracy {_percent(measured.accuracy_before)} before, {_percent(measured.accuracy)} after:"
            f" {measured.corrected} labels corrected, {measured.spoiled} spoiled"
        )


def command_path() -> str:
    """Return how to type this command here: its name if the shell finds it, else its path from the current folder."""
    program = Path(sys.argv[0])
    if program.name != "fewshot" or not program.is_file():
        return "fewshot"
    found = shutil.which("fewshot")
    if found is not None and Path(found).samefile(program):
        return "fewshot"
    return os.path.relpath(program)


def show_demo(reporter: Reporter, result: FinishedDemo) -> None:
    """Show a few predictions, the whole, and what to try next."""
    table = Table("picture", "label", "score", "ground truth", "result", title="a few of them", title_justify="left")
    for row in result.examples:
        table.add_row(*_cells(row))
    reporter.console.print(table)
    show_classification(reporter, result.finished)
    job_file = Path(result.job_file)
    fewshot = shlex.quote(command_path())
    reporter.say("try next:")
    reporter.say(f"  {fewshot} classify {shlex.quote(str(job_file))} --set classifier.method=ape")
    reporter.say(f"  {fewshot} evaluate {shlex.quote(str(job_file.with_name('evaluate.toml')))}")
    reporter.say(f"your own pictures: {fewshot} classify FOLDER --examples FOLDER_OF_CLASSES")


def _cells(row: DemoRow) -> tuple[str, ...]:
    if row.guess is None:
        return (row.image, "–", "–", "–", f"unreadable: {row.error}")
    outcome = "right" if row.guess == row.ground_truth else "wrong"
    withheld = ", withheld" if row.status == "abstained" else ""
    score = "–" if row.score is None else f"{row.score:.2f}"
    return (row.image, row.guess, score, row.ground_truth or "–", outcome + withheld)


def show_plan(reporter: Reporter, plan: CostPlan) -> None:
    """Show what would run, and what it costs."""
    table = Table("stage", "what", "done", "left", title="plan (nothing was run)", title_justify="left")
    for stage in plan.stages:
        table.add_row(stage.stage, stage.what, "?" if stage.done is None else str(stage.done), _left(stage))
    reporter.console.print(table)
    if plan.examples_of_class:
        show_classes(reporter, plan.examples_of_class)
    for warning in plan.warnings:
        reporter.say(f"warning: {warning}", style="yellow")
    if (probe := plan.probe) is not None:
        reporter.say(_backbone(probe.backbone))
        workers = plural(plan.workers, "worker")
        reporter.say(
            f"the model of one worker embeds {probe.images_per_second:.1f} images/s on {probe.device}: if reading and"
            f" decoding keep up, the rest takes about {probe.hours * 60:.1f} minutes with {workers}"
        )
    if plan.embedding is not None:
        reporter.say(f"in the last run of this job, {plan.embedding.sentence()}")
    if plan.escalation is not None:
        reporter.say(_cost(plan.escalation))
        if plan.escalation.training_memory is not None:
            _show_memory(reporter, plan.escalation.training_memory)
    if plan.unknown is not None and plan.unknown.is_reachable:
        reporter.say(plan.unknown.sentence())
    if plan.label_sets is not None:
        reporter.say(label_set_words.planned(plan.label_sets))
    elif plan.audited is not None:
        reporter.say(plan.audited.sentence(), style=None if plan.audited.threshold is not None else "yellow")
    else:
        _show_error_limit(reporter, plan.error_limit)


def _backbone(facts: BackboneFacts) -> str:
    text = f"class names, scale of logits {facts.logit_scale:.3g}" if facts.has_text else "no class names"
    return f"model: {facts.image_dim} numbers an image, {text}, licence {facts.licence or 'not stated'}"


def _show_error_limit(reporter: Reporter, limit: ErrorLimitPlan) -> None:
    """Show how many examples `max_error` takes and, of a trained classifier, what it would label."""
    if not limit.is_reachable:
        text = shortage(limit.max_error, limit.needed, limit.held_out, limit.least_error)
        reporter.say(text, style="yellow")
    elif limit.max_error is not None:
        reporter.say(
            f"max_error = {limit.max_error} needs at least {limit.needed} held-out examples, all labelled right; there"
            f" are {limit.held_out:,}"
        )
    elif (reachable := rounded_up(limit.least_error)) is not None:
        held_out = plural(limit.held_out, "held-out example")
        reporter.say(f"no max_error: every image gets a label; {held_out} could guarantee a max_error of {reachable}")
    if any(share.held_out_share is not None for share in limit.shares):
        reporter.say(shares_sentence(limit.shares))


def _left(stage: PlannedStage) -> str:
    left = "?" if stage.left is None else str(stage.left)
    return f"at most {left}" if stage.at_most else left


def _cost(escalation: EscalationCost) -> str:
    if escalation.forwards is None:
        return "what escalation costs is not known before the archive was read once"
    forwards = f"escalation takes at most {escalation.forwards:.0f} forwards of the diffusion model"
    if escalation.hours is None:
        return forwards
    gpu = "a GPU" if escalation.gpu_hours else "a worker"
    return (
        f"{forwards}: {escalation.hours:.2g} hours of {gpu},"
        f" at {escalation.forwards_a_second:.1f} a second on {escalation.device}"
    )


def _show_memory(reporter: Reporter, memory: BlockMemory) -> None:
    """Show what training a block takes on a GPU, and whether the one of this machine has it."""
    plain, least = _gib(memory.plain_bytes), _gib(memory.least_bytes)
    block = f"a block of {plural(memory.classes, 'class', 'classes')}"
    reporter.say(f"training {block} takes {plain} of a GPU, or {least} with gradient checkpointing")
    if memory.problem is not None:
        reporter.say(f"warning: {memory.problem}", style="yellow")
    elif memory.device_bytes is not None:
        needed = " with gradient checkpointing" if memory.checkpointing else ""
        reporter.say(f"a worker has {_gib(memory.device_bytes)} on the GPU here, which is enough{needed}")


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"


def _percent(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"
