"""Read an archive on S3 in this process, and report images, CPU-seconds and seconds; two parts at a time, as a worker.

"s3fs" is the usual way: its listing, its files, and eight threads for objects, of which it reads only a sample.
"""

from __future__ import annotations

import json
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq

from cluster import Storage
from cluster.records import open_source, read_shard
from cluster.storage.filesystems import open_filesystem

UNITS = 2
THREADS = 8
SAMPLE = 500
BLOCK_BYTES = 4 << 20

Part = Callable[[], int]
"""Reads a part of an archive, and returns the number of its images."""


def ours(uri: str, storage: Storage) -> list[Part]:
    """Return what reads each shard."""
    shards = open_source(uri, storage=storage).shards()
    return [lambda shard=shard: sum(record.data is not None for record in read_shard(shard)) for shard in shards]


def by_s3fs(uri: str, storage: Storage) -> list[Part]:
    """Return what reads each container, or a sample of the objects."""
    filesystem, root = open_filesystem(uri, storage)
    paths = sorted(filesystem.find(root))
    if paths[0].endswith((".tar", ".zip", ".parquet")):
        return [lambda path=path: sum(1 for _ in _members(filesystem, path)) for path in paths]

    def read_objects() -> int:
        with ThreadPoolExecutor(THREADS) as threads:
            return sum(1 for _ in threads.map(filesystem.cat_file, paths[:SAMPLE]))

    return [read_objects]


def _members(filesystem, path: str) -> Iterator[bytes]:
    with filesystem.open(path, "rb", block_size=BLOCK_BYTES) as file:
        if path.endswith(".tar"):
            with tarfile.open(fileobj=file, mode="r|") as tar:
                yield from (tar.extractfile(member).read() for member in tar)
        elif path.endswith(".zip"):
            with zipfile.ZipFile(file) as members:
                yield from (members.read(name) for name in members.namelist())
        else:
            for batch in pq.ParquetFile(file).iter_batches(64):
                yield from (cell.as_py() for cell in batch.column("image"))


def main(way: str, uri: str, endpoint: str) -> None:
    storage = Storage(endpoint=endpoint, region="us-east-1")
    parts = {"ours": ours, "s3fs": by_s3fs}[way](uri, storage)
    started, cpu_s = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(UNITS) as units:
        images = sum(units.map(lambda part: part(), parts))
    measured = {"images": images, "wall_s": time.monotonic() - started, "cpu_s": time.process_time() - cpu_s}
    sys.stdout.write(json.dumps(measured))


if __name__ == "__main__":
    main(*sys.argv[1:])
