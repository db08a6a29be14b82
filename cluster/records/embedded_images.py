"""Read single images from cells of Parquet tables, by references such as "train.parquet#7"."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.records.base import EntryError, ReadOptions, Record
from cluster.records.containers import container_at
from cluster.records.location import Location
from cluster.records.parquet import read_rows
from cluster.records.references import References

BATCH = 256
"""Images in memory at a time, at most."""
MARK = "#"
"""Between the path of a table and the number of a row."""


@dataclass(frozen=True, slots=True)
class EmbeddedImages:
    """Reads images from the tables that hold them.

    A reference is the path of a table, `MARK`, and the number of a row, from 1. A struct with a path in place of bytes
    is followed, as in an archive.

    Attributes:
        tables: how the paths of tables are resolved.
        column: of the images.
    """

    tables: References
    column: str

    def resolve(self, reference: str) -> Location:
        """Return the location of the table.

        Raises:
            EntryError: it is no reference to a row, or this table may not be referred to.
        """
        return self.tables.resolve(_parsed(reference)[0])

    def read(self, reference: str) -> bytes:
        """Read an image.

        Raises:
            EntryError: it cannot be read, now or later.
            StorageError: storage does not answer.
        """
        (found,) = self.read_all([reference], threads=1)
        if isinstance(found, EntryError):
            raise found
        return found

    def read_all(self, references: Sequence[str], *, threads: int) -> Iterator[bytes | EntryError]:
        """Read images, in order; for each its content, or the reason why it cannot be read.

        One thread reads: rows of a group are decoded one after the other. A group is read once for `BATCH` images.
        """
        del threads
        for start in range(0, len(references), BATCH):
            yield from self._batch(references[start : start + BATCH])

    def _batch(self, names: Sequence[str]) -> Iterator[bytes | EntryError]:
        wanted: defaultdict[str, list[int]] = defaultdict(list)
        found: dict[tuple[str, int], bytes | EntryError] = {}
        try:
            places = [_parsed(name) for name in names]
        except EntryError as error:
            yield from [error] * len(names)
            return
        for table, number in places:
            wanted[table].append(number)
        for table, numbers in wanted.items():
            found.update(self._rows(table, numbers))
        yield from (found[place] for place in places)

    def _rows(self, table: str, numbers: Sequence[int]) -> Iterator[tuple[tuple[str, int], bytes | EntryError]]:
        options = ReadOptions(max_bytes=self.tables.max_bytes, schemes=self.tables.schemes)
        try:
            container = container_at(self.tables.resolve(table))
            for number, record in read_rows(container, self.column, {number - 1 for number in numbers}, options):
                yield (table, number + 1), _content(record)
        except EntryError as error:
            yield from (((table, number), error) for number in numbers)


def _parsed(reference: str) -> tuple[str, int]:
    table, mark, number = reference.rpartition(MARK)
    if not mark or not number.isascii() or not number.isdigit():
        raise EntryError("expected a table and a row, such as train.parquet#7")
    return table, int(number)


def _content(record: Record) -> bytes | EntryError:
    return EntryError(record.error) if record.data is None else record.data
