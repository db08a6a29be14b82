"""List a folder of objects on S3 in this process, and report objects, CPU-seconds and seconds."""

from __future__ import annotations

import json
import sys
import time

from cluster import Storage
from cluster.records import Skipped, open_source
from cluster.records.listing import walk
from cluster.records.location import Location
from cluster.storage.filesystems import open_filesystem


def flat_by_s3fs(uri: str, storage: Storage) -> int:
    """List one page after the other."""
    filesystem, root = open_filesystem(uri, storage)
    bucket, _, prefix = root.partition("/")
    count, more = 0, {}
    while True:
        page = filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{prefix}/", **more)
        count += len([(item["Key"], item["Size"], item["ETag"]) for item in page["Contents"]])
        if not page["IsTruncated"]:
            return count
        more = {"ContinuationToken": page["NextContinuationToken"]}


WAYS = {
    "s3fs": flat_by_s3fs,
    "ours": lambda uri, storage: sum(1 for _ in walk(Location.parse(uri, storage), Skipped())),
    "shards": lambda uri, storage: sum(shard.size for shard in open_source(uri, storage=storage).shards()),
}
"""Functions that list an archive and count its objects; "shards" also decides what they are, and cuts them."""


def main(way: str, uri: str, endpoint: str) -> None:
    storage = Storage(endpoint=endpoint, region="us-east-1")
    filesystem, _ = open_filesystem(uri, storage)
    filesystem.exists(uri)  # Connects; a client takes a quarter of a second, whatever is listed.
    started, cpu_s = time.monotonic(), time.process_time()
    objects = WAYS[way](uri, storage)
    measured = {"images": objects, "wall_s": time.monotonic() - started, "cpu_s": time.process_time() - cpu_s}
    sys.stdout.write(json.dumps(measured))


if __name__ == "__main__":
    main(*sys.argv[1:])
