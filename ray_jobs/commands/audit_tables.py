"""Tables of `audit`."""

from __future__ import annotations

import shlex

from rich.table import Table

from ray_jobs.console.progress import Reporter
from ray_jobs.report.markup import plural
from ray_jobs.results.audit_result import AuditedClass, AuditedShare, AuditEstimates, AuditResult

SHOWN_CLASSES = 30
"""Classes that a table shows, the most frequent first."""


def show_audit(reporter: Reporter, result: AuditResult, output: str) -> None:
    """Show what was drawn, what the answers say about the archive, and the command to give more of them.

    Args:
        reporter: shows them.
        result: of the audit.
        output: the output as the user named it.
    """
    left_out = [(result.learned_from, "that the classifier learned from"), (result.unreadable, "unreadable")]
    without = " and ".join(f"{count:,} {what}" for count, what in left_out if count)
    reporter.say(
        f"draw {result.draw}: {result.images:,} of {plural(result.population, 'image')}"
        + (f", without {without}" if without else "")
    )
    for note in result.notes:
        reporter.say(note, style="yellow")
    if result.estimates is None:
        reporter.say("no answers yet: nothing is known about the accuracy")
    else:
        _show_shares(reporter, result, result.estimates)
        _show_classes(reporter, result.estimates.classes)
        _show_limits(reporter, result, result.estimates)
    _show_answers(reporter, result, output)


def _show_answers(reporter: Reporter, result: AuditResult, output: str) -> None:
    if result.uncertain:
        reporter.say(
            f"{plural(result.uncertain, 'answer says', 'answers say')} that nobody can say: they count as wrong in the"
            " lower ends and as right in the upper ends, since such images are not like the others",
            style="yellow",
        )
    if result.waiting:
        reporter.say(
            f"{plural(result.waiting, 'answer does', 'answers do')} not count yet: image"
            f" {result.answered + 1} of the draw has none, and images that are passed over would bias the estimates."
            " Answer it; skipped is an answer",
            style="yellow",
        )
    if (left := result.images - result.answered - result.waiting) > 0:
        reporter.say(f"{plural(left, 'image has', 'images have')} no answer yet")
        reporter.say(
            f"To answer in a browser: fewshot review {shlex.quote(output)} --screen {shlex.quote(result.draw)}"
        )


def _show_shares(reporter: Reporter, result: AuditResult, found: AuditEstimates) -> None:
    percent = f"{100 * result.confidence:g} %"
    title = f"the archive, from {plural(result.answered, 'answer')}"
    table = Table(title=title, title_justify="left", caption_justify="left")
    for column in ("", "estimate", f"{percent} at every look", f"{percent} if this number was fixed"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("right predictions", *_cells(found.accuracy))
    if found.labelled_error is not None:
        table.add_row("wrong among labels given", *_cells(found.labelled_error))
    table.add_row("labels given", _percent(result.labelled_share), "exact", "exact")
    table.add_row("labels withheld", _percent(result.abstained_share), "exact", "exact")
    reporter.console.print(table)


def _show_classes(reporter: Reporter, classes: tuple[AuditedClass, ...]) -> None:
    shown = sorted(classes, key=lambda each: (-(each.images or each.predicted), each.label))[:SHOWN_CLASSES]
    table = Table(title="classes, with intervals that hold at every look", title_justify="left")
    for column in ("class", "predicted", "images", "precision", "recall"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for each in shown:
        images = "?" if each.images is None else f"{each.images:,}"
        bounds = f"{images} ({each.images_low:,} to {each.images_high:,})"
        table.add_row(each.label, f"{each.predicted:,}", bounds, _share(each.precision), _share(each.recall))
    reporter.console.print(table)
    if len(classes) > len(shown):
        reporter.say(f"and {len(classes) - len(shown)} more classes")


def _show_limits(reporter: Reporter, result: AuditResult, found: AuditEstimates) -> None:
    table = Table(
        title=f"labels at a maximum error, with {100 * result.limit_confidence:g} % confidence", title_justify="left"
    )
    for column in ("max_error", "images labelled", "score from", "answers, wrong ones"):
        table.add_column(column, justify="right")
    for limit in found.limits:
        if limit.threshold is None:
            table.add_row(f"{limit.max_error:g}", "none", "–", f"at least {limit.needed}, 0")
        else:
            counts = f"{limit.answered}, {limit.wrong}"
            table.add_row(f"{limit.max_error:g}", _percent(limit.share), f"{limit.threshold:.4g}", counts)
    reporter.console.print(table)


def _cells(share: AuditedShare) -> tuple[str, str, str]:
    fixed = "–" if share.fixed_low is None or share.fixed_high is None else _range(share.fixed_low, share.fixed_high)
    return ("–" if share.value is None else _percent(share.value), _range(share.low, share.high), fixed)


def _share(share: AuditedShare) -> str:
    return f"{'–' if share.value is None else _percent(share.value)} ({_range(share.low, share.high)})"


def _range(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
