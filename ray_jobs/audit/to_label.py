"""The images of a draw that have no answer yet, as a table that `fewshot labels import` takes."""

from __future__ import annotations

import csv
import io

from ray_jobs.audit.audit import Audit

COLUMNS = ("image", "label", "answer", "reason", "draw", "probability", "url")


def table_to_label(done: Audit) -> tuple[bytes, int]:
    """Return the images of an audit that have no answer yet as a CSV table, without what was predicted.

    Args:
        done: the audit.

    Returns:
        the table, in the order of the draw, whose columns label and answer are empty, and the number of its images.
    """
    answered = done.current.draws.get(done.result.draw, {})
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    rows = 0
    for each in done.sample.images:
        if done.archive.image_id(each.image) not in answered:
            url = done.archive.run.image_url(each.image, each.source)
            writer.writerow((each.image, "", "", "audit", done.result.draw, repr(each.probability), url))
            rows += 1
    return file.getvalue().encode("utf-8", "backslashreplace"), rows
