"""A folder that `datasets.load_dataset` reads: images, and `metadata.parquet` with a row an image.

`file_name` becomes the column `image` of the data set; the key in the archive is `key`, where the predictions have
`image`. `README.md` is the card of the data set; its header names the loader and the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_jobs.export.destination import Destination
from ray_jobs.export.exported_rows import ExportedRows
from ray_jobs.export.safe_names import TakenNames, image_name

SCHEMA = pa.schema(
    [
        pa.field("file_name", pa.string()),
        pa.field("label", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("status", pa.string()),
        pa.field("key", pa.string()),
        pa.field("url", pa.string()),
        pa.field("labelled_by", pa.string()),
    ]
)
ROW_GROUP = 500
"""Rows that are written to the table at a time."""
CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path:
    - metadata.parquet
    - images/*
---

Images with the labels that fewshot gave them (run {run}). `score` is the calibrated probability of the label, `key` the
image's name in the archive.
"""


def write(rows: ExportedRows, out: Destination) -> None:
    """Write the images, their table and the card."""
    with closing(TakenNames()) as taken, out.open("metadata.parquet") as file, pq.ParquetWriter(file, SCHEMA) as table:
        for batch in _batches(rows, out, taken):
            table.write_table(pa.Table.from_pylist(batch, SCHEMA))
    out.put("README.md", CARD.format(run=rows.run.name).encode())


def _batches(rows: ExportedRows, out: Destination, taken: TakenNames) -> Iterator[list[dict[str, Any]]]:
    """Write the images; yield the rows of the table, some at a time."""
    batch: list[dict[str, Any]] = []
    for row, data in rows.with_images():
        name = taken.take(f"images/{image_name(row.image, data)}")
        out.put(name, data)
        batch.append({**row.values, "file_name": name, "key": row.image})
        if len(batch) == ROW_GROUP:
            yield batch
            batch = []
    if batch:
        yield batch
