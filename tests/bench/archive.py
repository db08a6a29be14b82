"""How a driver grows with the archive: memory and CPU for each shard, from synthetic tables."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.result import Gate, Result
from tests.bench.usage import python

MIB = 2**20
ROWS_AT_A_TIME = 10_000
SHARD_IMAGES = 32
"""Far fewer than anybody would choose, so that there are as many shards as in a far larger archive."""


def run(*, images: int, repeat: int) -> Result:
    """A driver in a process of its own for each of three sizes.

    Args:
        images: of the largest archive; the others are a tenth and a hundredth of it.
        repeat: not used: memory does not vary.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in (images // 100, images // 10, images):
            table = _write(Path(folder) / f"{size}.parquet", size)
            messages = json.loads(python("tests.bench.contenders.driver", table, SHARD_IMAGES).output)
            shards = messages["shards"]
            rows.append(
                {
                    "images": messages["images"],
                    "shards": shards,
                    "driver's peak MiB": messages["peak_bytes"] / MIB,
                    "listing, CPU ms a shard": 1e3 * messages["listed_s"] / shards,
                    "resuming, CPU ms a shard": 1e3 * messages["resumed_s"] / shards,
                }
            )
    grown = max(float(row["driver's peak MiB"]) for row in rows)
    return Result(
        "archive",
        f"a driver on archives in shards of {SHARD_IMAGES}",
        rows,
        [Gate.at_most("MiB held by Python objects", grown, 128)],
    )


def _write(path: Path, rows: int) -> Path:
    """A table of keys and a few bytes, in groups of rows as a writer of images would make them."""
    schema = pa.schema({"key": pa.string(), "image": pa.binary()})
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, ROWS_AT_A_TIME):
            keys = [f"folder/{row:09}.jpg" for row in range(start, min(rows, start + ROWS_AT_A_TIME))]
            writer.write_table(
                pa.table({"key": keys, "image": [b"JPEG"] * len(keys)}, schema), row_group_size=SHARD_IMAGES
            )
    return path
