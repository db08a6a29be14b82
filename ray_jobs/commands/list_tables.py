"""Tables of lists of images: `suggest` and `search`."""

from __future__ import annotations

import posixpath
import shlex

from rich.table import Table

from ray_jobs.console.progress import Reporter
from ray_jobs.console.sanitize import sanitized
from ray_jobs.report.markup import plural
from ray_jobs.results.image_list import ImageList, ListedImage, StoredList


def show_list(reporter: Reporter, result: StoredList, output: str) -> None:
    """Show a list, what it was chosen from, where it lies, and the command to look at it.

    Args:
        reporter: shows them.
        result: the list.
        output: the output as the user named it.
    """
    content = result.content
    if content.images:
        reporter.console.print(_table(content))
    for notice in content.notices:
        reporter.say(notice, style="yellow")
    beside = "" if content.labelled is None else f", beside {content.labelled} with labels"
    reporter.say(f"{len(content.images)} of {plural(content.considered, 'image')}{beside}; the list is {result.stored}")
    if result.table is not None:
        reporter.say(f"wrote them to {result.table}")
    if content.images:
        name = posixpath.basename(result.stored).removesuffix(".json")
        reporter.say(f"To label them in a browser: fewshot review {shlex.quote(output)} --screen {name}")


def _table(content: ImageList) -> Table:
    table = Table()
    table.add_column("", justify="right")
    table.add_column("image", overflow="fold")
    table.add_column("similarity" if content.kind == "search" else "why", justify="left")
    table.add_column("predicted", overflow="fold")
    for rank, image in enumerate(content.images, start=1):
        why = f"{image.similarity:.3f}" if image.similarity is not None else image.reason or ""
        table.add_row(str(rank), sanitized(image.image), sanitized(why), sanitized(_predicted(image)))
    return table


def _predicted(image: ListedImage) -> str:
    if image.label is None:
        return "–"
    return image.label if image.score is None else f"{image.label} {image.score:.2f}"
