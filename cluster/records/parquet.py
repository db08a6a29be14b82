"""Parquet tables of images, or of paths and URLs of images: every row is a record."""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import SourceError, StorageError
from cluster.fingerprint import fingerprint
from cluster.records.base import EntryError, Lister, ReadOptions, Record, Shard, Skipped
from cluster.records.columns import Columns, Layout, find_layout, find_layouts
from cluster.records.containers import Archive, Container, unreadable_shard
from cluster.records.inline_images import is_inline
from cluster.records.names import printable
from cluster.records.parquet_cells import get_bytes, get_field, get_reference, get_text
from cluster.records.reading import etag_of, first_line
from cluster.records.references import References
from cluster.records.signatures import HEAD_BYTES, PARQUET, packing_of
from cluster.records.streams import Span

MAX_SLICES = 8
"""At most so many shards are cut from one row group: reading rows in its middle means reading those before them."""

MAX_GROUP_ROWS = 1 << 20
"""Largest number of rows in a row group, the default of common writers. A footer can claim any number."""

MAX_EXPANSION = 1000
"""How many times larger than the file the images of a shard may be: a dictionary can repeat one value endlessly."""

SAMPLED_KEYS = 1000
"""Keys of the first and of the last row group that are compared to find out whether a column tells images apart."""

_SMALL_FILE = 1 << 20
_PAGE_BYTES = 2 << 20
"""More than a page usually has. What is not requested ahead is requested when it is reached."""
_KEPT_FOOTERS, _MAX_FOOTER_BYTES = 4, 8 << 20
_BATCH_ROWS = {
    "bytes": 1,
    "struct": 1,
    "unnamed struct": 1,
    "uri": 8,
}  # A row can be as large as memory allows; copying costs the same.
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError)


def open_tables(archive: Archive) -> Lister:
    """Open Parquet files as an archive, with the columns of the first one that can be read.

    Raises:
        SourceError: no table can be read, or no column fits.
    """
    layout = _first_layout(archive)
    return partial(archive.shards, partial(_split, layout=layout, options=archive.options))


def _first_layout(archive: Archive) -> Layout:
    reason = "no parquet file"
    for found in archive.containers(Skipped()):
        if not isinstance(found, Container):
            reason = f"{found.key}: {found.reason}"
            continue
        try:
            with _opened(found) as table:
                layouts = find_layouts(table.schema_arrow, archive.options.columns, found.name)
                return next((item for item in layouts[:-1] if _tells_apart(table, item)), layouts[-1])
        except EntryError as error:
            reason = f"{found.name}: {error}"
    raise SourceError(f"no table of {archive.location.redacted} can be read: {reason}")


@dataclass(frozen=True, slots=True)
class TableSummary:
    """What a table beside images is.

    Attributes:
        holds: images, their paths or URLs, neither, or something that cannot be read.
        rows: number of its rows, as it claims.
    """

    holds: Literal["images", "paths", "neither", "damage"]
    rows: int = 0


def summarize_table(container: Container, columns: Columns) -> TableSummary:
    """Read the footer of a table that may be a sidecar of images.

    Raises:
        StorageError: storage does not answer.
    """
    try:
        with _opened(container) as table:
            rows = table.metadata.num_rows
            layout = find_layout(table.schema_arrow, columns, container.name)
    except EntryError:
        return TableSummary("damage")
    except SourceError:
        return TableSummary("neither", rows)
    return TableSummary("paths" if layout.holds == "uri" else "images", rows)


def _tells_apart(table: pq.ParquetFile, layout: Layout) -> bool:
    """Whether no key occurs twice among some of a table.

    Images of one file name in many folders are usual, and Hugging Face's tables keep the names alone; some have one
    name in every row. Groups far apart are compared, as rows are often sorted by folder.
    """
    if layout.key_field is None:
        return True
    groups = sorted({0, table.num_row_groups - 1}) if table.num_row_groups else []
    try:
        keys = [key for group in groups for key in itertools.islice(_keys(table, layout, group), SAMPLED_KEYS)]
    except StorageError:
        raise
    except (EntryError, *_DAMAGE):  # Reading gives the reason.
        return True
    return len(set(keys)) == len(keys)


def _keys(table: pq.ParquetFile, layout: Layout, group: int) -> Iterator[str]:
    """Yield the keys of a row group, without those that are null."""
    batches = table.iter_batches(64, row_groups=[group], columns=[layout.key_field], use_threads=False)
    for batch in batches:
        for cell in batch.column(0):
            key = get_text(get_field(cell, "path") if layout.key is None else cell, "key")
            if key is not None:
                yield key


def _split(container: Container, skipped: Skipped, *, layout: Layout, options: ReadOptions) -> Iterator[Shard]:
    """Cut a table by its footer; of its columns only local paths are read, and their files looked up."""
    del skipped
    try:
        with _opened(container) as table:
            find_layout(table.schema_arrow, Columns(image=layout.image, key=layout.key), container.name)
            groups = _group_rows(table.metadata, container.size)
    except (EntryError, SourceError) as error:
        yield unreadable_shard(container.name, str(error))
        return
    before = 0
    for index, rows in enumerate(groups):
        for part in _parts(rows, options.shard_records):
            rows_of = (index, before, part.start, part.stop)
            yield _shard(RowRange(container, layout, *rows_of, options.max_bytes, options.schemes))
        before += rows


def _shard(rows: RowRange) -> Shard:
    place = [rows.group, rows.start, rows.stop]
    options = [rows.max_bytes, *sorted(rows.schemes), *rows.versions()]
    return Shard(fingerprint([rows.container.identity, rows.layout, place, *options]), rows.stop - rows.start, rows)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: the bytes of an image, or a reference to them, or neither."""

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
        schemes: of the source.
        wanted: the rows of the group to read, of those from `start` to `stop`; None reads all.
    """

    container: Container
    layout: Layout
    group: int
    before: int
    start: int
    stop: int
    max_bytes: int
    schemes: frozenset[str] = frozenset()
    wanted: frozenset[int] | None = None

    def read(self, *, threads: int, skipped: Skipped) -> Iterator[Record]:
        """See `read_shard`."""
        del skipped
        references = self._references()
        rows = (row for number, row in enumerate(self._rows(), self.start) if self._is_wanted(number))
        if self.layout.holds == "bytes":
            yield from (self._record(row, references) for row in rows)
        else:
            yield from references.map(lambda row: self._record(row, references), rows, threads=threads)

    def versions(self) -> list[str]:
        """Return sizes and times of the local files that the rows name: the table stays the same when they change."""
        if self.layout.holds != "uri" or not self.container.location.is_local:
            return []
        references = self._references()
        return [references.version(row.reference) for row in self._rows() if isinstance(row, Row) and row.reference]

    def _references(self) -> References:
        folder = self.container.path.rpartition("/")[0]
        return References(self.container.location, folder, self.max_bytes, self.schemes)

    def _is_wanted(self, number: int) -> bool:
        return self.wanted is None or number in self.wanted

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
        return row.data

    def _rows(self) -> Iterator[Row | Record]:
        """Yield the rows; after damage, an error record for each of the rest."""
        row, left = self.start, MAX_EXPANSION * max(self.container.size, _SMALL_FILE)
        try:
            with _opened(self.container, self._spans) as table:
                for image, key in self._cells(table):
                    found = self._row(image, key, row)
                    left -= 0 if isinstance(found, Record) else len(found.data or found.reference or b"")
                    if left < 0:
                        raise EntryError(f"the file expands to more than {MAX_EXPANSION} times its size")
                    yield found
                    row += 1
            reason = "damaged parquet file: it has fewer rows than it claims"
        except EntryError as error:
            reason = str(error)
        except StorageError:
            raise
        except _DAMAGE as error:
            reason = f"damaged parquet file: {first_line(error)}"
        for rest in range(row, self.stop):
            yield Record(self._numbered(rest), None, reason, self.container.name)

    def _spans(self, metadata: pq.FileMetaData) -> list[Span]:
        """Return where the columns of the rows begin and probably end in the file."""
        group = metadata.row_group(self.group)
        share = min(1.0, self.stop / max(1, group.num_rows))
        spans = []
        for index in range(group.num_columns):
            chunk = group.column(index)
            if chunk.path_in_schema.partition(".")[0] in self.layout.columns:
                start = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)), default=0)
                stop = start + int(share * chunk.total_compressed_size) + _PAGE_BYTES
                spans.append((start, min(stop, start + chunk.total_compressed_size, self.container.size)))
        return [(start, stop) for start, stop in spans if 0 < start < stop]

    def _cells(self, table: pq.ParquetFile) -> Iterator[tuple[Any, Any]]:
        """Yield image and key of each row, with no more than one batch in memory."""
        position = 0
        batches = table.iter_batches(
            _BATCH_ROWS[self.layout.holds], row_groups=[self.group], columns=self.layout.columns, use_threads=False
        )
        for batch in batches:
            images = batch.column(self.layout.image)
            keys = batch.column(self.layout.key) if self.layout.key else [None] * len(batch)
            for row in range(max(self.start - position, 0), min(self.stop - position, len(batch))):
                yield images[row], keys[row]
            position += len(batch)
            if position >= self.stop:
                return

    def _row(self, image: pa.Scalar, key: pa.Scalar | None, row: int) -> Row | Record:
        name = self._numbered(row)
        try:
            cell = get_field(image, "path") if self.layout.is_struct else image
            path = None if self.layout.holds == "bytes" else get_reference(cell, self.max_bytes)
            if (given := self._given_key(key, path)) is not None:
                name = printable(given)
            if self.layout.holds == "uri":
                return Row(name, None, path)
            data = get_field(image, "bytes") if self.layout.is_struct else image
            return Row(name, get_bytes(data, self.max_bytes), path)
        except EntryError as error:
            return Record(name, None, str(error), self.container.name)

    def _given_key(self, key: pa.Scalar | None, path: str | None) -> str | None:
        """Return what the table calls a row; None if nothing. An image that is a text is no name."""
        is_name = path is not None and not is_inline(path)
        if self.layout.key == self.layout.image:
            return path if is_name else None
        given = get_text(key, "key")
        return path if given is None and self.layout.holds == "struct" and is_name else given

    def _numbered(self, row: int) -> str:
        return f"{PurePosixPath(self.container.name).with_suffix('')}/{self.before + row}"


def read_rows(
    container: Container, image: str, numbers: Collection[int], options: ReadOptions
) -> Iterator[tuple[int, Record]]:
    """Read some rows of a table, group by group.

    Args:
        container: the table.
        image: the column with the images, or with their paths or URLs.
        numbers: of the rows, from 0.
        options: how much is read, and from where.

    Yields:
        Number and record of each of these rows, in ascending order.

    Raises:
        EntryError: the table cannot be read, or has no such column or row.
        StorageError: storage does not answer, also after retries.
    """
    with _opened(container) as table:
        try:
            layout = find_layout(table.schema_arrow, Columns(image=image), container.name)
        except SourceError as error:
            raise EntryError(str(error)) from None
        groups = _group_rows(table.metadata, container.size)
    if missing := [number for number in numbers if not 0 <= number < sum(groups)]:
        raise EntryError(f"{container.name} has {sum(groups)} rows, but row {missing[0] + 1} is wanted")
    for index, (before, rows) in enumerate(zip(itertools.accumulate(groups, initial=0), groups, strict=False)):
        wanted = sorted(number - before for number in numbers if before <= number < before + rows)
        if wanted:
            place = (index, before, wanted[0], wanted[-1] + 1)
            part = RowRange(container, layout, *place, options.max_bytes, options.schemes, frozenset(wanted))
            for number, record in zip(wanted, part.read(threads=1, skipped=Skipped()), strict=True):
                yield before + number, record


@contextmanager
def _opened(
    container: Container, spans: Callable[[pq.FileMetaData], Iterable[Span]] = lambda _: ()
) -> Iterator[pq.ParquetFile]:
    """Open a table.

    Args:
        container: the table.
        spans: returns the parts of it that will be read, each by itself from front to back.

    Raises:
        EntryError: it is not a Parquet file, or its footer is damaged.
        StorageError: storage does not answer.
    """
    with container.open() as stream:
        try:
            metadata = _known_footers.get(container)
            table = pq.ParquetFile(stream, metadata=metadata, buffer_size=1 << 20, page_checksum_verification=True)
        except StorageError:
            raise
        except _DAMAGE as error:
            raise EntryError(_packing(container) or f"damaged parquet file: {first_line(error)}") from error
        _known_footers.add(container, table.metadata)
        for span in spans(table.metadata):
            stream.read_ahead([span])
        yield table


class _Footers:
    """Footers of the remote tables that were read last: every shard of a table needs its footer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._footers: OrderedDict[Container, pq.FileMetaData] = OrderedDict()

    def get(self, container: Container) -> pq.FileMetaData | None:
        """Return the footer of a table; None if it is not known."""
        with self._lock:
            return self._footers.get(container)

    def add(self, container: Container, footer: pq.FileMetaData) -> None:
        """Remember a footer, if the version of the table identifies its content."""
        if etag_of(container.version) and footer.serialized_size <= _MAX_FOOTER_BYTES:
            with self._lock:
                self._footers[container] = footer
                self._footers.move_to_end(container)
                while len(self._footers) > _KEPT_FOOTERS:
                    self._footers.popitem(last=False)


_known_footers = _Footers()


def _packing(container: Container) -> str | None:
    """Return what a file that is called a table is instead, as a reason; None if it is not known."""
    with container.open() as stream:
        packing = packing_of(stream.read(HEAD_BYTES))
    return f"{packing}, not a Parquet file" if packing and packing != PARQUET else None


def _group_rows(metadata: pq.FileMetaData, size: int) -> list[int]:
    """Return the number of rows in each row group, checked against the size of the file.

    Raises:
        EntryError: a file of this size cannot have so many.
    """
    groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    if not all(0 <= rows <= MAX_GROUP_ROWS for rows in groups):
        raise EntryError(f"a row group of {max(groups)} rows, at most {MAX_GROUP_ROWS} are read; write smaller ones")
    if sum(groups) > size:
        raise EntryError(f"damaged parquet file: it claims {sum(groups)} images in {size} bytes")
    return groups


def _parts(rows: int, target: int) -> list[range]:
    """Cut a row group into equal parts of about `target` rows."""
    count = max(1, min(math.ceil(rows / target), MAX_SLICES)) if rows else 0
    bounds = [rows * index // count for index in range(count + 1)] if count else []
    return [range(start, stop) for start, stop in itertools.pairwise(bounds)]
