"""The words that archives are described with: a source, its shards, the records in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from cluster.errors import ClusterError


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of an archive: its bytes, or the reason why there are none.

    Attributes:
        key: names the entry within the archive; printable. Two entries of a broken archive may share a key.
        data: the content, not looked at; None if it could not be had.
        error: why it could not be had, fit for a report; None if it could.
        source: the object that holds the entry, relative to the archive (a tar, a parquet file); "" where the entry
            is an object itself.
    """

    key: str
    data: bytes | None
    error: str | None
    source: str

    def __post_init__(self) -> None:
        """Exactly one of `data` and `error` is there."""
        assert (self.data is None) != (self.error is None)


@dataclass(slots=True)
class Skipped:
    """What was passed over because it is no image by its name (hidden, a sidecar): counted, with a few examples.

    Attributes:
        count: number of entries. A hidden local folder counts once.
        examples: the first few keys.
    """

    count: int = 0
    examples: list[str] = field(default_factory=list)
    max_examples: ClassVar[int] = 5

    def clear(self) -> None:
        """Start anew."""
        self.count = 0
        self.examples.clear()

    def add(self, key: str) -> None:
        """Count one."""
        self.count += 1
        if len(self.examples) < self.max_examples:
            self.examples.append(key)


class Payload(Protocol):
    """Where the records of one shard are: small and picklable."""

    def read(self, *, threads: int, skipped: Skipped) -> Iterator[Record]:
        """See `read_shard`."""
        ...


@dataclass(frozen=True, slots=True)
class Shard:
    """A piece of an archive that one worker reads at a time.

    Attributes:
        fingerprint: 16 hexadecimal characters over everything that determines its records: keys, sizes and versions
            (ETag or time of change), and the options they are read with. Not over where the archive is.
        size: number of records, None where only reading tells.
        payload: how to read it.
    """

    fingerprint: str
    size: int | None
    payload: Payload = field(repr=False)


class Source(Protocol):
    """An archive that was opened, but not yet listed.

    Attributes:
        uri: where it is, without credentials.
        kind: "folder", "parquet" or "tar".
        fingerprint: 16 hexadecimal characters over kind and place, not over contents.
        skipped: what the listing passed over; starts anew with every call of `shards`.
    """

    @property
    def uri(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def skipped(self) -> Skipped: ...

    def shards(self) -> Iterator[Shard]:
        """List the archive, in an order that only its contents determine, holding little of it at a time.

        Raises:
            StorageError: storage does not answer, also after retries.
        """
        ...


class EntryError(ClusterError):
    """One entry cannot be read and never will be; the message is the reason. Becomes `Record.error`."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The payload of an object of which nothing can be read: one record that says why."""

    key: str
    reason: str
    source: str

    def read(self, *, threads: int, skipped: Skipped) -> Iterator[Record]:
        """Just the reason."""
        del threads, skipped
        yield Record(self.key, None, self.reason, self.source)
