"""Read an archive on S3 in this process, and report images, bytes, CPU-seconds and seconds.

"s3fs" is the usual way: its files, or eight threads for objects, and its listings.
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

THREADS = 8
BLOCK_BYTES = 4 << 20


def ours(uri: str, storage: Storage) -> tuple[int, Callable[[], Iterator[bytes | None]]]:
    """List an archive; return the number of its shards, and what reads them one after the other, as a worker does."""
    shards = list(open_source(uri, storage=storage).shards())

    def read() -> Iterator[bytes | None]:
        for shard in shards:
            yield from (record.data for record in read_shard(shard))

    return len(shards), read


def by_s3fs(uri: str, storage: Storage) -> tuple[int, Callable[[], Iterator[bytes | None]]]:
    """List with s3fs; return the number of objects, and what reads them with its files."""
    filesystem, root = open_filesystem(uri, storage)
    paths = sorted(filesystem.find(root))

    def read() -> Iterator[bytes | None]:
        if not paths[0].endswith((".tar", ".zip", ".parquet")):
            with ThreadPoolExecutor(THREADS) as threads:
                yield from threads.map(filesystem.cat_file, paths)
            return
        for path in paths:
            with filesystem.open(path, "rb", block_size=BLOCK_BYTES) as file:
                yield from _members(file, path)

    return len(paths), read


def _members(file, path: str) -> Iterator[bytes]:
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
    wall, cpu = time.monotonic(), time.process_time()
    parts, read = {"ours": ours, "s3fs": by_s3fs}[way](uri, storage)
    listed = (time.monotonic() - wall, time.process_time() - cpu)
    wall, cpu = time.monotonic(), time.process_time()
    sizes = [len(data or b"") for data in read()]
    taken = (time.monotonic() - wall, time.process_time() - cpu)
    measured = {"parts": parts, "images": len(sizes), "bytes": sum(sizes)}
    measured |= {"listing_wall_s": listed[0], "listing_cpu_s": listed[1]}
    sys.stdout.write(json.dumps(measured | {"wall_s": taken[0], "cpu_s": taken[1]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
