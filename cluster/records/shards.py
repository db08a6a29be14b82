"""Some records of a shard, by their place in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cluster.records.base import Record, Shard, Skipped
from cluster.records.folder import FolderSlice


def pick(shard: Shard, rows: Sequence[int], *, threads: int = 4) -> Iterator[Record]:
    """Read the records at these places of a shard, in the shard's order.

    Files of a folder are read alone; a table or a tar is read up to the last place, because there is no other way in.

    Args:
        shard: from `Source.shards`.
        rows: places in the order of `read_shard`, from 0.
        threads: see `read_shard`.

    Raises:
        StorageError: see `read_shard`.
    """
    wanted = sorted(set(rows))
    if isinstance(shard.payload, FolderSlice):
        entries = tuple(shard.payload.entries[row] for row in wanted)
        yield from replace(shard.payload, entries=entries).read(threads=threads, skipped=Skipped())
        return
    left = set(wanted)
    for row, record in enumerate(shard.payload.read(threads=threads, skipped=Skipped())):
        if row in left:
            left.discard(row)
            yield record
        if not left:
            return
