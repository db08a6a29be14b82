"""Parquet tables with images in them, or with paths and URLs of images: every row is a record."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import SourceError, StorageError
from cluster.fingerprint import fingerprint
from cluster.records.base import EntryError, Record, Shard, Skipped, Unreadable
from cluster.records.columns import Columns, Layout, find_layout
from cluster.records.containers import Container, containers
from cluster.records.location import Location
from cluster.records.names import is_parquet, printable
from cluster.records.reading import ordered_map, too_large
from cluster.records.references import References

MAX_SLICES = 8
"""Shards that one row group is cut into at most: a reader of rows in its middle has to read those before them, too."""

_BATCH_ROWS = 32
_DAMAGE = (pa.ArrowException, OSError)


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """See `Source`.

    Attributes:
        location: a parquet file, a folder of them, or a glob.
        layout: which columns are read.
        shard_records: about how many rows a shard has.
        max_bytes: larger images become an error.
        skipped: whatever else lies beside the tables, after listing.
    """

    location: Location
    layout: Layout
    shard_records: int
    max_bytes: int
    skipped: Skipped = field(default_factory=Skipped, compare=False)

    @classmethod
    def open(cls, location: Location, columns: Columns, *, shard_records: int, max_bytes: int) -> ParquetSource:
        """Find the columns, in the first table that can be read.

        Raises:
            SourceError: no table can be read, or no column fits.
        """
        reason = "no parquet file"
        for found in containers(location, is_parquet, Skipped()):
            if not isinstance(found, Container):
                reason = ": ".join(found)
                continue
            try:
                with _opened(found) as table:
                    return cls(location, find_layout(table.schema_arrow, columns, found.name), shard_records, max_bytes)
            except EntryError as error:
                reason = f"{found.name}: {error}"
        raise SourceError(f"no table of {location.shown} can be read: {reason}")

    @property
    def uri(self) -> str:
        """Where it is, without credentials."""
        return self.location.shown

    @property
    def kind(self) -> str:
        """What it is."""
        return "parquet"

    @property
    def fingerprint(self) -> str:
        """Names the place."""
        return fingerprint([self.kind, self.uri])

    def shards(self) -> Iterator[Shard]:
        """See `Source.shards`. Reads the footer of each table, not its columns."""
        self.skipped.clear()
        for found in containers(self.location, is_parquet, self.skipped):
            if isinstance(found, Container):
                yield from self._shards_of(found)
            else:
                yield _unreadable(*found)

    def _shards_of(self, container: Container) -> Iterator[Shard]:
        try:
            with _opened(container) as table:
                find_layout(table.schema_arrow, Columns(image=self.layout.image, key=self.layout.key), container.name)
                groups = [table.metadata.row_group(index).num_rows for index in range(table.metadata.num_row_groups)]
        except (EntryError, SourceError) as error:
            yield _unreadable(container.name, str(error))
            return
        before = 0
        for index, rows in enumerate(groups):
            for part in _parts(rows, self.shard_records):
                yield self._shard(
                    RowRange(container, self.layout, index, before, part.start, part.stop, self.max_bytes)
                )
            before += rows

    def _shard(self, rows: RowRange) -> Shard:
        place = [rows.group, rows.start, rows.stop]
        return Shard(
            fingerprint([rows.container.identity, self.layout, place, self.max_bytes]), rows.stop - rows.start, rows
        )


@dataclass(frozen=True, slots=True)
class Row:
    """What a table says of one image: its bytes, or where they are, or neither."""

    key: str
    data: bytes | None
    reference: str | None


@dataclass(frozen=True, slots=True)
class RowRange:
    """Some rows of one row group.

    Attributes:
        container: the table.
        layout: which columns are read.
        group: index of the row group.
        before: rows of the table before this group.
        start: first row, counted in the group.
        stop: the row after the last.
        max_bytes: larger images become an error.
    """

    container: Container
    layout: Layout
    group: int
    before: int
    start: int
    stop: int
    max_bytes: int

    def read(self, *, threads: int, skipped: Skipped) -> Iterator[Record]:
        """See `read_shard`."""
        del skipped
        folder = self.container.path.rpartition("/")[0]
        references = References(self.container.location, folder, self.max_bytes)
        yield from ordered_map(lambda row: self._record(row, references), self._rows(), threads)

    def _record(self, row: Row | Record, references: References) -> Record:
        if isinstance(row, Record):
            return row
        try:
            data = self._data(row, references)
        except EntryError as error:
            return Record(row.key, None, str(error), self.container.name)
        return Record(row.key, data, None, self.container.name)

    def _data(self, row: Row, references: References) -> bytes:
        if row.data is None:
            if row.reference is None:
                raise EntryError("no image: null")
            return references.read(row.reference)
        if len(row.data) > self.max_bytes:
            raise EntryError(too_large(len(row.data), self.max_bytes))
        return row.data

    def _rows(self) -> Iterator[Row | Record]:
        """The rows; after damage, an error for each of the rest."""
        row = self.start
        try:
            with _opened(self.container) as table:
                for values, key in self._cells(table):
                    yield self._row(values, key, row)
                    row += 1
            return
        except EntryError as error:
            reason = str(error)
        except StorageError:
            raise
        except _DAMAGE as error:
            reason = f"damaged parquet file: {_first_line(error)}"
        for rest in range(row, self.stop):
            yield Record(self._numbered(rest), None, reason, self.container.name)

    def _cells(self, table: pq.ParquetFile) -> Iterator[tuple[Any, Any]]:
        """Image and key of each row, with no more than a batch of them in memory."""
        position = 0
        batches = table.iter_batches(
            _BATCH_ROWS, row_groups=[self.group], columns=self.layout.columns, use_threads=False
        )
        for batch in batches:
            first, last = max(self.start - position, 0), min(self.stop - position, len(batch))
            if first < last:
                wanted = batch.slice(first, last - first)
                images = wanted.column(self.layout.image).to_pylist()
                keys = wanted.column(self.layout.key).to_pylist() if self.layout.key else [None] * len(images)
                yield from zip(images, keys, strict=True)
            position += len(batch)
            if position >= self.stop:
                return

    def _row(self, image: Any, key: Any, row: int) -> Row:
        data, path = image, None
        if self.layout.holds == "struct":
            data, path = (image or {}).get("bytes"), (image or {}).get("path")
        elif self.layout.holds == "uri":
            data, path = None, image
        if key is None and self.layout.holds == "struct":
            key = path
        return Row(self._numbered(row) if key is None else printable(str(key)), data, path)

    def _numbered(self, row: int) -> str:
        return f"{PurePosixPath(self.container.name).with_suffix('')}/{self.before + row}"


def _opened(container: Container) -> pq.ParquetFile:
    """The table, its footer read.

    Raises:
        EntryError: it is no parquet file, or its footer is damaged.
        StorageError: storage does not answer.
    """
    try:
        return pq.ParquetFile(container.open(), buffer_size=1 << 20, page_checksum_verification=True)
    except StorageError:
        raise
    except _DAMAGE as error:
        raise EntryError(f"damaged parquet file: {_first_line(error)}") from error


def _parts(rows: int, target: int) -> list[range]:
    """Cut a row group into equal parts of about `target` rows."""
    count = max(1, min(math.ceil(rows / target), MAX_SLICES)) if rows else 0
    bounds = [rows * index // count for index in range(count + 1)] if count else []
    return [range(start, stop) for start, stop in itertools.pairwise(bounds)]


def _unreadable(name: str, reason: str) -> Shard:
    return Shard(fingerprint([name, reason]), 1, Unreadable(name, reason, name))


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:120] if lines else type(error).__name__
