"""Tasks of Label Studio with predictions to correct, and `config.xml`, the labelling configuration for a project.

Tasks are in files of at most 20,000: Label Studio takes long for larger ones, and refuses those above 250 MB.
Images are copied into `images/`, which Label Studio serves as local files if it is started with the folder around this
one as LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT. With links, tasks name the URLs that the images have in the archive.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from ray_jobs.errors import JobError
from ray_jobs.export.destination import Destination
from ray_jobs.export.exported_rows import ExportedRow, ExportedRows
from ray_jobs.export.json_lines import JsonStream
from ray_jobs.export.safe_names import TakenNames, image_name, xml_text

TASKS = 20_000
LOCAL = "/data/local-files/?d="
CHOICES, IMAGE = "label", "image"


def write(rows: ExportedRows, out: Destination) -> None:
    """Write the configuration and the tasks."""
    out.put("config.xml", labelling_config(rows.classes))
    with closing(TakenNames()) as taken:
        tasks = _tasks(rows, out, taken)
        number = 0
        while (first := next(tasks, None)) is not None:
            with out.open(f"tasks-{number:05d}.json") as file, JsonStream(file).inside(b"[\n", b"\n]\n") as document:
                document.add(first)
                for task in islice(tasks, TASKS - 1):
                    document.add(task)
            number += 1


def labelling_config(classes: Iterable[str]) -> bytes:
    """Return the configuration of a project whose images have one of these classes each."""
    view = ET.Element("View")
    ET.SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}")
    choices = ET.SubElement(view, "Choices", name=CHOICES, toName=IMAGE, choice="single", showInline="true")
    for name in classes:
        ET.SubElement(choices, "Choice", value=xml_text(name))
    return bytes(ET.tostring(view, encoding="utf-8", xml_declaration=False))


def _tasks(rows: ExportedRows, out: Destination, taken: TakenNames) -> Iterator[dict[str, Any]]:
    """Copy the images, and yield the task of each."""
    folder = posixpath.basename(out.place)
    for row, data in rows.with_images_or_links():
        if data is None:
            place = _link(row)
        else:
            name = taken.take(f"images/{image_name(row.image, data)}")
            out.put(name, data)
            place = LOCAL + quote(f"{folder}/{name}") if "://" not in out.place else f"{out.place}/{name}"
        yield {"data": {IMAGE: place, **_data(row)}, **_labelled(row, rows)}


def _data(row: ExportedRow) -> dict[str, Any]:
    """Return what the data manager shows beside an image."""
    return {("key" if name == "image" else name): value for name, value in row.details().items()}


def _labelled(row: ExportedRow, rows: ExportedRows) -> dict[str, Any]:
    """Return the annotation of a person, or the prediction: the label, or the best guess, to be corrected."""
    name = row.label if row.labelled_by else row.guess
    if name is None:
        return {}
    result = {"from_name": CHOICES, "to_name": IMAGE, "type": "choices", "value": {"choices": [xml_text(name)]}}
    if row.labelled_by:
        return {"annotations": [{"result": [result]}]}
    score = {} if row.score is None else {"score": row.score}
    return {"predictions": [{"model_version": rows.run.name, **score, "result": [result]}]}


def _link(row: ExportedRow) -> str:
    """Return what Label Studio can open.

    Raises:
        JobError: an image that lies in a container has no address of its own.
    """
    if row.url is None or row.source:
        where = row.url or row.image
        raise JobError([f"Label Studio cannot open {where}: leave --links out to copy images"])
    if "://" in row.url:
        return row.url
    return LOCAL + quote(row.url.lstrip("/"))
