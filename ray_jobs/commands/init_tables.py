"""Tables of `init`, and the classes that `plan` shows as well."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_jobs.commands.init import InitResult
    from ray_jobs.console.progress import Reporter

MAX_CLASSES = 20
"""Classes that are all listed; of more, the largest and the smallest."""
SHOWN_EACH = 5


def show_draft(reporter: Reporter, result: InitResult) -> None:
    """Show what the inputs are, what to look at, and what to run next."""
    from ray_jobs.drafting.job_text import archive_summary, examples_summary

    archive, examples = result.survey.archive, result.survey.examples
    reporter.say(f"archive: {archive.uri} ({archive_summary(archive)})")
    _show_skipped(reporter, "archive", archive.skipped, archive.skipped_examples)
    reporter.say(f"examples: {examples.uri} ({examples_summary(examples.counts, examples.form)})")
    _show_skipped(reporter, "examples", examples.skipped, examples.skipped_examples)
    show_classes(reporter, examples.counts)
    for warning in result.warnings:
        reporter.say(f"warning: {warning}", style="yellow")
    for note in result.notes:
        reporter.say(f"note: {note}")
    file = shlex.quote(result.job_file)
    reporter.say(f"wrote {result.job_file}; results will go to {result.output}. Next:")
    reporter.say(f"  fewshot plan {file}")
    reporter.say(f"  fewshot classify {file}")


def _show_skipped(reporter: Reporter, where: str, skipped: int, names: tuple[str, ...]) -> None:
    from ray_jobs.report.markup import skipped_entries

    if skipped:
        more = ", …" if skipped > len(names) else ""
        reporter.say(f"in the {where}, {skipped_entries(skipped)}: {', '.join(names)}{more}")


def show_classes(reporter: Reporter, counts: Mapping[str, int]) -> None:
    """Show the number of examples of each class."""
    from rich.table import Table

    table = Table("class", title="examples of each class", title_justify="left")
    table.add_column("examples", justify="right")
    for name, count in rows_to_show(counts):
        table.add_row(name, count)
    reporter.console.print(table)


def rows_to_show(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return class and count of each row: all classes, or of many the largest and the smallest."""
    rows = [(name, f"{count:,}") for name, count in counts.items()]
    if len(rows) <= MAX_CLASSES:
        return rows
    ordered = sorted(rows, key=lambda row: -counts[row[0]])
    between = ("…", f"{len(rows) - 2 * SHOWN_EACH:,} classes between")
    return [*ordered[:SHOWN_EACH], between, *ordered[-SHOWN_EACH:]]
