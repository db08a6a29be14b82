"""Lists of images in an output, for `fewshot review`, and as CSV tables.

suggestions/<fingerprint>.json     an `ImageList`, named after its content: the same list is stored once
"""

from __future__ import annotations

import csv
import io
import posixpath
from pathlib import Path

from cluster import Store, fingerprint
from ray_jobs.output.layout import SUGGESTIONS
from ray_jobs.output.new_files import write_new_table
from ray_jobs.results.image_list import ImageList, StoredList
from ray_jobs.suggestion.embedded_run import EmbeddedRun

HEADER = ("rank", "image", "source", "url", "why", "similarity", "predicted", "score", "label", "reason")
"""Columns of the table. `label` is empty, to be filled in; with `reason`, `fewshot labels import` takes the table."""


def store_list(embedded: EmbeddedRun, content: ImageList, table: Path | None = None) -> StoredList:
    """Store a list in the output, and as a table.

    Args:
        embedded: the run that it was made from.
        content: the list.
        table: CSV file to write; None writes none.

    Raises:
        JobError: the table cannot be written, exists, or would lie among images or results.
        StorageError: the output cannot be written to.
    """
    if table is not None:
        data = csv_table(embedded, content)
        write_new_table(table, data, option="--csv", job=embedded.job, output=embedded.store)
    path = f"{SUGGESTIONS}/{fingerprint(content.to_json())}.json"
    embedded.store.put(path, content.to_bytes())
    return StoredList(content=content, stored=embedded.store.url(path), table=None if table is None else str(table))


def read_lists(store: Store) -> dict[str, ImageList]:
    """Read the lists of an output by name, the newest first where storage reports times.

    Raises:
        FormatError: one is damaged, or from another version.
        StorageError: storage does not respond.
    """
    paths = [path for path in store.list(SUGGESTIONS) if path.endswith(".json")]
    by_age = sorted(paths, key=lambda path: (store.age_s(path) or 0.0, path))
    return {
        posixpath.basename(path).removesuffix(".json"): ImageList.from_json(store.get(path), where=store.url(path))
        for path in by_age
    }


def csv_table(embedded: EmbeddedRun, content: ImageList) -> bytes:
    """Return a list as a CSV table with the columns `HEADER`, values that do not exist empty."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEADER)
    for rank, image in enumerate(content.images, start=1):
        url = embedded.image_url(image.image, image.source)
        numbers = ["" if value is None else f"{value:.4f}" for value in (image.similarity, image.score)]
        guess = (image.reason or "", numbers[0], image.label or "", numbers[1])
        writer.writerow((rank, image.image, image.source, url, *guess, "", content.kind))
    return file.getvalue().encode("utf-8", "surrogateescape")
