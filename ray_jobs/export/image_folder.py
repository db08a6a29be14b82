"""Images in a folder for each class, as `torchvision.datasets.ImageFolder` and many others read them.

A folder has the name of its class, as far as file systems allow that; `classes.json` has the names as they are. Rows
without a label, if they are asked for, lie in a folder of their status: `_abstained`, `_unknown`, `_unreadable`.
`predictions.csv` has each image's file, key and score. With links there are no images: it names their URLs.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from contextlib import closing

from ray_jobs.export.destination import Destination
from ray_jobs.export.exported_rows import URL, ExportedRow, ExportedRows
from ray_jobs.export.format_table import ALL
from ray_jobs.export.json_lines import to_json
from ray_jobs.export.safe_names import TakenNames, folder_names, image_name

TABLE, CLASSES = "predictions.csv", "classes.json"


def write(rows: ExportedRows, out: Destination) -> None:
    """Write the images, or links to them, and the tables about them."""
    folders = folder_names(rows.classes, others=[_folder_of(status) for status in ALL])
    with (
        closing(TakenNames()) as taken,
        io.TextIOWrapper(out.open(TABLE), encoding="utf-8", newline="") as file,
    ):
        table = csv.writer(file)
        table.writerow(["file", "image", "label", "score", "status", "labelled_by", URL])
        for row, name, data in _files(rows, folders, taken):
            if data is not None:
                out.put(name, data)
            table.writerow([name, row.image, row.label, row.score, row.status, row.labelled_by, row.url])
    out.put(CLASSES, to_json({folders[name]: name for name in rows.classes}))


def _files(
    rows: ExportedRows, folders: Mapping[str, str], taken: TakenNames
) -> Iterator[tuple[ExportedRow, str, bytes | None]]:
    """Yield each row with the path of its file, and its image; None if that is only linked to."""
    for row, data in rows.with_images_or_links():
        folder = _folder_of(row.status) if row.label is None else folders[row.label]
        yield row, taken.take(f"{folder}/{image_name(row.image, data)}"), data


def _folder_of(status: str) -> str:
    """The folder of images without a label."""
    return f"_{status}"
