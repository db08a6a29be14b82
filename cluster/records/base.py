"""The terms that archives are described in: a source, its shards, the records in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from cluster.errors import ClusterError
from cluster.fingerprint import fingerprint
from cluster.records.columns import Columns


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of an archive: its bytes, or the reason why there are none.

    Attributes:
        key: name of the entry within the archive, printable. Two entries of a broken archive may share a key.
        data: the content, not interpreted; None if it cannot be read.
        error: why it cannot be read, as a phrase for reports; None if it can.
        source: the container that holds the entry, relative to the archive; "" where the entry is an object itself.
    """

    key: str
    data: bytes | None
    error: str | None
    source: str

    def __post_init__(self) -> None:
        """Check that exactly one of `data` and `error` is set."""
        assert (self.data is None) != (self.error is None)


@dataclass(slots=True)
class Skipped:
    """Counts, with a few examples, of entries that are no images by their names (hidden files, sidecars) or repeat one.

    Attributes:
        count: number of entries that are no images. A hidden local folder counts once.
        examples: the first few keys.
        repeated: number of rows of a list that name an image again.
        repeated_examples: the first few keys of these images.
    """

    count: int = 0
    examples: list[str] = field(default_factory=list)
    repeated: int = 0
    repeated_examples: list[str] = field(default_factory=list)
    max_examples: ClassVar[int] = 5

    def clear(self) -> None:
        """Reset the counts to 0."""
        self.count = self.repeated = 0
        self.examples.clear()
        self.repeated_examples.clear()

    def add(self, key: str) -> None:
        """Count one entry."""
        self.count += 1
        if len(self.examples) < self.max_examples:
            self.examples.append(key)

    def add_repeated(self, key: str) -> None:
        """Count a row that names an image again."""
        self.repeated += 1
        if len(self.repeated_examples) < self.max_examples:
            self.repeated_examples.append(key)


class Payload(Protocol):
    """Where the records of a shard are, and how to read them: small and picklable."""

    def read(self, *, threads: int, skipped: Skipped) -> Iterator[Record]:
        """See `read_shard`."""
        ...


@runtime_checkable
class RandomAccess(Protocol):
    """A payload that can read some of its records without those before them."""

    def select(self, rows: Sequence[int]) -> Payload:
        """Return the payload of the records at these positions, in ascending order, from 0."""
        ...


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of an archive that one worker reads at a time.

    Attributes:
        fingerprint: 16 hexadecimal characters over everything that determines its records: keys, sizes and versions
            (ETag or modification time), and the options they are read with. Not over where the archive is.
        size: number of records; None if it is known only after reading.
        payload: reads it.
    """

    fingerprint: str
    size: int | None
    payload: Payload = field(repr=False)


Lister = Callable[[Skipped], Iterator[Shard]]
"""Lists an archive: yields its shards and counts what it skips."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How an archive is cut and read.

    Attributes:
        shard_records: about how many records a shard has, >= 1.
        max_bytes: a larger entry becomes an error record.
        columns: of Parquet tables.
        schemes: kinds of URL that rows of tables may name beside the archive's own kind, see `References`.
        component: which files or members count as images, see `is_entry`; None goes by the usual names.
        follow_links: whether symbolic links out of a local folder are followed, see `walk`.
    """

    shard_records: int = 256
    max_bytes: int = 256 << 20
    columns: Columns = field(default_factory=Columns)
    schemes: frozenset[str] = frozenset()
    component: str | None = None
    follow_links: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """An archive that was opened, but not yet listed.

    Attributes:
        kind: name of its form, see `FORMS`.
        uri: where it is, without credentials.
        lister: of its form.
        skipped: what the last listing passed over.
        id: a name that stands for the place, whichever that is; None for the place itself.
    """

    kind: str
    uri: str
    lister: Lister = field(repr=False)
    skipped: Skipped = field(default_factory=Skipped, compare=False)
    id: str | None = None

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal characters over kind and place, not over contents."""
        return fingerprint([self.kind, self.uri])

    @property
    def identity(self) -> str:
        """The same over the name if there is one: what is kept under it is found again at another place."""
        return self.fingerprint if self.id is None else fingerprint(["archive", self.id])

    def shards(self) -> Iterator[Shard]:
        """List the archive, in an order that only its contents determine, holding little of it at a time.

        Raises:
            StorageError: storage does not answer, also after retries.
        """
        self.skipped.clear()
        yield from self.lister(self.skipped)


class EntryError(ClusterError):
    """One entry cannot be read, now or later. The message is the reason and becomes `Record.error`."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The payload of an object that cannot be read: one error record."""

    key: str
    reason: str
    source: str

    def read(self, *, threads: int, skipped: Skipped) -> Iterator[Record]:
        """Yield the reason as the only record."""
        del threads, skipped
        yield Record(self.key, None, self.reason, self.source)
