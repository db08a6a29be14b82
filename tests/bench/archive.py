"""Memory of a driver, and its CPU time for each shard, by the size of the archive; from synthetic tables."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.result import Gate, Result
from tests.bench.usage import run_python

MIB = 2**20
ROWS_PER_WRITE = 10_000
SHARD_IMAGES = 32
"""Far fewer than usual, so that there are as many shards as in a far larger archive."""


def run(*, images: int, repeat: int) -> Result:
    """Measure a driver in its own process for each of three sizes.

    Args:
        images: of the largest archive; the others are a tenth and a hundredth of it.
        repeat: unused: memory does not vary.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in (images // 100, images // 10, images):
            table = write_table(Path(folder) / f"{size}.parquet", size, row_group=SHARD_IMAGES)
            measured = json.loads(run_python("tests.bench.contenders.driver", table, SHARD_IMAGES).output)
            shards = measured["shards"]
            rows.append(
                {
                    "images": measured["images"],
                    "shards": shards,
                    "driver's peak MiB": measured["peak_bytes"] / MIB,
                    "listing, CPU ms a shard": 1e3 * measured["listed_s"] / shards,
                    "resuming, CPU ms a shard": 1e3 * measured["resumed_s"] / shards,
                }
            )
    peak = max(float(row["driver's peak MiB"]) for row in rows)
    return Result(
        "archive",
        f"a driver on archives in shards of {SHARD_IMAGES}",
        rows,
        [Gate.at_most("MiB held by Python objects", peak, 128)],
    )


def write_table(path: Path, rows: int, *, row_group: int) -> Path:
    """Write a table of keys and a few bytes, with row groups like those of a table of images."""
    schema = pa.schema({"key": pa.string(), "image": pa.binary()})
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, ROWS_PER_WRITE):
            keys = [f"folder/{row:09}.jpg" for row in range(start, min(rows, start + ROWS_PER_WRITE))]
            writer.write_table(
                pa.table({"key": keys, "image": [b"JPEG"] * len(keys)}, schema), row_group_size=row_group
            )
    return path
