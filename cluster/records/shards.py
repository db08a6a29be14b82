"""Read the records of a shard: all of them, or those at some positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluster.records.base import RandomAccess, Record, Shard, Skipped


def read_shard(shard: Shard, *, threads: int = 4, skipped: Skipped | None = None) -> Iterator[Record]:
    """Read the records of a shard, in order.

    Args:
        shard: from `Source.shards`, here or in another process.
        threads: number of local files read at a time, >= 1, where records are files of their own. Requests to remote
            storage are as many as hide its latency, within limits that all readers of the process share.
        skipped: counts sidecars and hidden members that only reading finds (in a tar); None does not count them.

    Yields:
        One record for each entry, whatever is broken.

    Raises:
        StorageError: storage does not answer, also after retries. Nothing is known to be broken; read again later.
        ChangedError: a container is no longer what was listed. List again.
    """
    yield from shard.payload.read(threads=threads, skipped=Skipped() if skipped is None else skipped)


def pick(shard: Shard, rows: Sequence[int], *, threads: int = 4) -> Iterator[Record]:
    """Read the records at some positions of a shard, in the shard's order.

    A payload with random access reads nothing else; any other is read up to the last of these positions.

    Args:
        shard: from `Source.shards`.
        rows: positions in the order of `read_shard`, from 0.
        threads: see `read_shard`.

    Raises:
        StorageError: see `read_shard`.
        ChangedError: see `read_shard`.
    """
    wanted = sorted(set(rows))
    if isinstance(shard.payload, RandomAccess):
        yield from shard.payload.select(wanted).read(threads=threads, skipped=Skipped())
        return
    left = set(wanted)
    for row, record in enumerate(shard.payload.read(threads=threads, skipped=Skipped())):
        if row in left:
            left.discard(row)
            yield record
        if not left:
            return
