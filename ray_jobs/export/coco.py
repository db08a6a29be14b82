"""COCO annotations (https://cocodataset.org/#format-data): one file with images, annotations and categories.

COCO has no labels of whole images, so each label is a box as large as its image. Sizes are those of the stored pixels,
before EXIF turns them, as other programs count them. `file_name` is the key in the archive, `coco_url` where it lies.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from fewshot.images.warning_filter import ignore_pillow_warnings
from ray_jobs.export.destination import Destination
from ray_jobs.export.exported_rows import ExportedRow, ExportedRows
from ray_jobs.export.json_lines import JsonStream

NO_SIZE = "its width and height cannot be read"


def write(rows: ExportedRows, out: Destination) -> None:
    """Write the file. Annotations wait in a temporary file until all images are written."""
    categories = {name: number for number, name in enumerate(rows.classes, 1)}
    with (
        out.open() as file,
        tempfile.TemporaryFile() as waiting,
        JsonStream(file).inside(b"{\n", b"\n}\n") as document,
    ):
        document.add({"description": f"fewshot, {rows.run.name}"}, key="info")
        document.add([{"id": number, "name": name} for name, number in categories.items()], key="categories")
        annotations = JsonStream(waiting)
        with document.inside(b'"images": [\n', b"\n]") as images:
            for image, annotation in _entries(rows, categories):
                images.add(image)
                if annotation is not None:
                    annotations.add(annotation)
        with document.inside(b'"annotations": [\n', b"\n]"):
            waiting.seek(0)
            shutil.copyfileobj(waiting, file)


def _entries(
    rows: ExportedRows, categories: Mapping[str, int]
) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Yield each image, and its annotation; None where it has no label."""
    for row, size in rows.measured(pixel_size, NO_SIZE):
        number = rows.counts.rows
        width, height = size
        image = {"id": number, "width": width, "height": height, "file_name": row.image}
        image |= {} if row.url is None else {"coco_url": row.url}
        yield image, _annotation(row, number, size, categories)


def _annotation(
    row: ExportedRow, number: int, size: tuple[int, int], categories: Mapping[str, int]
) -> dict[str, Any] | None:
    if row.label is None:
        return None
    width, height = size
    box = {"bbox": [0, 0, width, height], "area": width * height, "iscrowd": 0}
    score = {} if row.score is None else {"score": row.score}
    return {"id": number, "image_id": number, "category_id": categories[row.label], **box, **score}


def pixel_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of an image in pixels from its head; None if that cannot be read."""
    from PIL import Image

    with ignore_pillow_warnings():
        try:
            with Image.open(io.BytesIO(data)) as image:
                return image.size
        except Exception:  # noqa: BLE001 -- readers of hostile data raise anything
            return None
