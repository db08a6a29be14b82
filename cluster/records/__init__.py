"""Where records come from: a folder, parquet tables or tar archives, on any URL that fsspec opens.

A record is bytes with a key; what the bytes are is not looked at. Everything that an archive lists becomes exactly
one record: its content, or the reason why it has none.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.records.base import Record, Shard, Skipped, Source
from cluster.records.columns import Columns
from cluster.records.opening import open_source
from cluster.records.selection import Selected, Selection
from cluster.records.shards import pick

__all__ = [
    "Columns",
    "Record",
    "Selected",
    "Selection",
    "Shard",
    "Skipped",
    "Source",
    "open_source",
    "pick",
    "read_shard",
]


def read_shard(shard: Shard, *, threads: int = 4, skipped: Skipped | None = None) -> Iterator[Record]:
    """Read the records of a shard, in order.

    Args:
        shard: from `Source.shards`, here or in another process.
        threads: objects that are fetched at a time, >= 1, where records are objects of their own.
        skipped: counts sidecars and hidden members that were found on the way (in a tar); None does not.

    Yields:
        One record for each entry, whatever is broken.

    Raises:
        StorageError: storage does not answer, also after retries. Nothing is known to be broken; read again later.
        ChangedError: a tar or a table is no longer what was listed. List again.
    """
    yield from shard.payload.read(threads=threads, skipped=Skipped() if skipped is None else skipped)
