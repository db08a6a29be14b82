"""A `FiftyOneImageClassificationDataset`: `labels.json`, and `data/` with the images, or `data.json` with their paths.

FiftyOne identifies images by their names without suffix, which keys of an archive may share, so they are numbered.
`keys.json` has the key of each, which FiftyOne passes over; so have the attributes of a label, where there is one.
"""

from __future__ import annotations

from contextlib import ExitStack

from ray_jobs.errors import JobError
from ray_jobs.export.destination import Destination
from ray_jobs.export.exported_rows import ExportedRow, ExportedRows
from ray_jobs.export.json_lines import JsonStream
from ray_jobs.export.safe_names import image_suffix

BEGIN, END = b"{\n", b"\n}\n"


def write(rows: ExportedRows, out: Destination) -> None:
    """Write the labels with the images, or with the paths of the images."""
    with ExitStack() as stack:
        document = stack.enter_context(JsonStream(stack.enter_context(out.open("labels.json"))).inside(BEGIN, END))
        document.add(list(rows.classes), key="classes")
        labels = stack.enter_context(document.inside(b'"labels": {\n', b"\n}"))
        keys = stack.enter_context(JsonStream(stack.enter_context(out.open("keys.json"))).inside(BEGIN, END))
        paths = None
        if rows.links:
            paths = stack.enter_context(JsonStream(stack.enter_context(out.open("data.json"))).inside(BEGIN, END))
        for row, data in rows.with_images_or_links():
            name = f"{rows.counts.rows:08d}"
            labels.add(_label(row), key=name)
            keys.add(row.image, key=name)
            if data is not None:
                out.put(f"data/{name}{image_suffix(row.image, data)}", data)
            elif paths is not None:
                paths.add(_local_path(row), key=name)


def _label(row: ExportedRow) -> dict[str, object] | None:
    if row.label is None:
        return None
    score = {} if row.score is None else {"confidence": row.score}
    return {"label": row.label, **score, "attributes": {**row.details()}}


def _local_path(row: ExportedRow) -> str:
    """Return where an image lies.

    Raises:
        JobError: that is no file of this machine.
    """
    if row.url is None or "://" in row.url or row.source:
        where = row.url or row.image
        raise JobError([f"FiftyOne opens files of this machine, and {where} is none: leave --links out to copy images"])
    return row.url
