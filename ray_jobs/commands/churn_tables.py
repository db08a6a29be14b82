"""Tables of `churn`, and what its options mean."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from ray_jobs.console.progress import Reporter
from ray_jobs.console.sanitize import sanitized
from ray_jobs.errors import JobError
from ray_jobs.report.markup import plural
from ray_jobs.results.churn_result import Churn, ClassChurn

SHOWN_PAIRS, SHOWN_CLASSES = 20, 20
"""Pairs and classes in the tables, those with the most changed images."""


def renamed_pairs(options: Sequence[str] | None) -> dict[str, str] | None:
    """Return the names of "OLD=NEW"; None without any.

    Raises:
        JobError: one is not of this form, or an old name has two new ones.
    """
    if not options:
        return None
    found: dict[str, str] = {}
    for option in options:
        old, equals, new = option.partition("=")
        if not (old and equals and new):
            raise JobError([f"--renamed: expected OLD=NEW, got {option!r}"])
        if found.setdefault(old, new) != new:
            raise JobError([f"--renamed: {old!r} has two new names, {found[old]!r} and {new!r}"])
    return found


def show_churn(reporter: Reporter, churn: Churn, page: str) -> None:
    """Show what changed, and where the page is.

    Args:
        reporter: shows it.
        churn: what changed.
        page: URL of the page.
    """
    reporter.say(churn.sentence())
    if churn.to_new_classes:
        reporter.say(f"{plural(churn.to_new_classes, 'of them has', 'of them have')} a class that is new")
    if churn.pairs:
        _show_pairs(reporter, churn)
        _show_classes(reporter, churn.classes)
    for change in churn.withheld:
        reporter.say(f"{plural(change.images, 'image')}: {change.before} before, {change.after} now")
    for count, what in ((churn.new, "new"), (churn.gone, "gone"), (churn.unreadable, "unreadable in one run at least")):
        if count:
            reporter.say(f"{plural(count, 'image')} {what}")
    for counts, which in ((churn.known, "known"), (churn.learned, "learned")):
        if counts is not None and counts.images:
            of = "with a label by people" if which == "known" else "that a classifier learned from"
            told = f"{counts.right:,} became right, {counts.wrong:,} became wrong, {counts.neither:,} neither"
            reporter.say(f"of {plural(counts.images, 'changed image')} {of}, {told}")
    reporter.say(f"page: {sanitized(page)}")


def _show_pairs(reporter: Reporter, churn: Churn) -> None:
    table = Table(title="which labels changed", title_justify="left")
    table.add_column("before", overflow="fold")
    table.add_column("now", overflow="fold")
    table.add_column("images", justify="right")
    for pair in churn.pairs[:SHOWN_PAIRS]:
        table.add_row(sanitized(pair.before), sanitized(pair.after), f"{pair.images:,}")
    reporter.console.print(table)
    if (more := len(churn.pairs) + churn.more_pairs - SHOWN_PAIRS) > 0:
        reporter.say(f"and {plural(more, 'more pair', 'more pairs')} of classes")


def _show_classes(reporter: Reporter, classes: Sequence[ClassChurn]) -> None:
    changed = sorted(
        (each for each in classes if each.gained or each.lost),
        key=lambda each: (-(each.gained + each.lost), each.label),
    )
    table = Table(title="class by class", title_justify="left")
    for column in ("class", "before", "lost", "gained", "now"):
        table.add_column(column, justify="left" if column == "class" else "right", overflow="fold")
    for each in changed[:SHOWN_CLASSES]:
        counts = (each.kept + each.lost, each.lost, each.gained, each.kept + each.gained)
        table.add_row(sanitized(each.label), *(f"{count:,}" for count in counts))
    reporter.console.print(table)
    if (more := len(changed) - SHOWN_CLASSES) > 0:
        reporter.say(f"and {plural(more, 'more class', 'more classes')} that changed")
