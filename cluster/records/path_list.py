"""Lists of images as archives: a path or URL in each row. A list is read as a stream and never kept.

Rows are references like those of a Parquet table (`References`): relative paths begin at the folder of the list, and
other kinds of storage are read only if the job allows them. Sizes and times of local files are part of a shard's name,
as in a folder. Those of other objects are not, since looking each up would take a request.

An image that a list names again, also as "./a.jpg" or "sub//a.jpg", is one record. The rows that repeat it are
counted.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import PurePosixPath

import pyarrow as pa

from cluster.errors import SourceError
from cluster.fingerprint import fingerprint
from cluster.records.base import EntryError, Lister, ReadOptions, Record, Shard, Skipped
from cluster.records.chunking import chunk
from cluster.records.columns import LIST_COLUMNS, Layout, find_layouts
from cluster.records.containers import Archive, Container, unreadable_shard
from cluster.records.inline_images import is_inline
from cluster.records.list_rows import ListRow, read_rows
from cluster.records.names import plain_path, printable
from cluster.records.reading import CHANGED, ordered_map, too_large, with_retries
from cluster.records.references import References

SAMPLED_ROWS = 1000
"""Rows from the beginning of a list that decide about its columns."""
COMPARED_ROWS = 5_000_000
"""Rows of a list among which repeated ones are found, which takes about 100 bytes for each of them."""


def open_lists(archive: Archive) -> Lister:
    """Open lists as an archive.

    Raises:
        SourceError: no list can be read: it is empty, no column fits, or none of its first rows leads to an image that
            may be read.
    """
    reason = "no list"
    for found in archive.containers(Skipped()):
        try:
            if not isinstance(found, Container):
                raise EntryError(found.reason)
            _check(_ListFile.open(found, archive.options))
        except EntryError as error:
            reason = f"{found.name if isinstance(found, Container) else found.key}: {error}"
        else:
            return partial(archive.shards, partial(_split, options=archive.options))
    raise SourceError(f"no list of {archive.location.redacted} can be read: {reason}")


def _split(container: Container, skipped: Skipped, *, options: ReadOptions) -> Iterator[Shard]:
    """Cut a list into shards; its local files are looked up."""
    try:
        found = _ListFile.open(container, options)
        listed = Counter[str]()
        entries = _without_repeats(found.entries(), skipped)
        for group in chunk(entries, key=lambda entry: entry.reference, target=options.shard_records):
            yield _shard(found, tuple(group), listed)
    except EntryError as error:
        yield unreadable_shard(container.name, str(error))


def _without_repeats(entries: Iterable[ListEntry], skipped: Skipped) -> Iterator[ListEntry]:
    """Yield each image once, and count the rows that name it again. Two names of an image are two images."""
    seen = set[bytes]()
    for entry in entries:
        text = f"{entry.key}\0{plain_path(entry.reference)}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(text, digest_size=12).digest()
        if digest in seen:
            skipped.add_repeated(entry.key)
        else:
            yield entry
        if len(seen) < COMPARED_ROWS:
            seen.add(digest)


def _shard(found: _ListFile, group: tuple[ListEntry, ...], listed: Counter[str]) -> Shard:
    """Return a shard; one that occurs again in a list has another name."""
    rows = [[entry.key, entry.reference, entry.size, entry.version, entry.problem] for entry in group]
    options = [found.references.max_bytes, *sorted(found.references.schemes)]
    name = fingerprint([found.container.name, rows, *options])
    listed[name] += 1
    if listed[name] > 1:
        name = fingerprint([name, listed[name]])
    return Shard(name, len(group), ListSlice(found.references, found.container.name, group))


def _check(found: _ListFile) -> None:
    """Raise unless one of the first rows may be read; objects elsewhere are not requested."""
    problems = []
    for entry in islice(found.entries(), SAMPLED_ROWS):
        if (problem := _known_problem(entry, found.references)) is None:
            return
        shown = entry.key if "://" in entry.reference else printable(entry.reference[:100]) or entry.key
        problems.append(f"{shown}: {problem}")
    raise EntryError(f"none of its first {len(problems)} rows can be read, such as {problems[0]}")


def _known_problem(entry: ListEntry, references: References) -> str | None:
    if entry.problem is not None or entry.size is not None or is_inline(entry.reference):
        return entry.problem
    try:
        if references.resolve(entry.reference).is_local:
            references.read(entry.reference)
    except EntryError as error:
        return str(error)
    return None


@dataclass(frozen=True, slots=True)
class ListEntry:
    """A row of a list.

    Attributes:
        key: name of the image.
        reference: path or URL.
        size: bytes of a local file; None if it was not looked up, or is not there.
        version: modification time of a local file; "" likewise.
        problem: why it is not read; None if it is.
    """

    key: str
    reference: str
    size: int | None = None
    version: str = ""
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ListSlice:
    """Some rows of a list, with random access.

    Attributes:
        references: reads what they name.
        source: name of the list.
        entries: the rows.
    """

    references: References
    source: str
    entries: tuple[ListEntry, ...] = field(repr=False)

    def read(self, *, threads: int, skipped: Skipped) -> Iterator[Record]:
        """See `read_shard`."""
        del skipped
        yield from ordered_map(self._record, self.entries, threads)

    def select(self, rows: Sequence[int]) -> ListSlice:
        """See `RandomAccess.select`."""
        return replace(self, entries=tuple(self.entries[row] for row in rows))

    def _record(self, entry: ListEntry) -> Record:
        if entry.problem is not None:
            return Record(entry.key, None, entry.problem, self.source)
        try:
            data = self.references.read(entry.reference)
        except EntryError as error:
            return Record(entry.key, None, str(error), self.source)
        if entry.size is not None and len(data) != entry.size:
            return Record(entry.key, None, CHANGED, self.source)
        return Record(entry.key, data, None, self.source)


@dataclass(frozen=True, slots=True)
class _ListFile:
    """A list and the columns that are read from it."""

    container: Container
    layout: Layout
    references: References

    @classmethod
    def open(cls, container: Container, options: ReadOptions) -> _ListFile:
        """Read the first rows of a list.

        Raises:
            EntryError: it has none, or no column fits.
        """
        rows = _first_rows(container)
        if not rows:
            raise EntryError("no images: the list is empty")
        columns = dict.fromkeys(name for row in rows for name in row.cells)
        if not columns:
            raise EntryError(str(rows[0].problem))
        try:
            schema = pa.schema([(name, pa.string()) for name in columns])
            layouts = find_layouts(schema, options.columns, container.name, LIST_COLUMNS)
        except UnicodeEncodeError:
            raise EntryError("its header is not UTF-8") from None
        except SourceError as error:
            raise EntryError(str(error)) from None
        layout = next((item for item in layouts[:-1] if _tells_apart(rows, item)), layouts[-1])
        folder = container.path.rpartition("/")[0] or "/"
        references = References(container.location, folder, options.max_bytes, options.schemes)
        return cls(container, layout, references)

    def entries(self) -> Iterator[ListEntry]:
        """Read the list. If its rest cannot be read, the last entry is the reason."""
        last = 0
        with self.container.open() as stream:
            rows = read_rows(stream, self.container.path)
            try:
                for row in rows:
                    yield self._entry(row)
                    last = row.line
            except EntryError as error:
                problem = f"what follows line {last} of {self.container.name} cannot be read: {error}"
                yield ListEntry(self.container.name, "", problem=problem)

    def _entry(self, row: ListRow) -> ListEntry:
        numbered = f"{PurePosixPath(self.container.name).with_suffix('')}/{row.line}"
        if row.problem is not None:
            return ListEntry(numbered, "", problem=row.problem)
        reference = row.cells.get(self.layout.image, "")
        name = row.cells.get(self.layout.key or "") or reference
        key = printable(plain_path(name)) if _is_name(name) else numbered
        try:
            return self._looked_up(key, reference)
        except EntryError as error:
            return ListEntry(key, reference, problem=str(error))

    def _looked_up(self, key: str, reference: str) -> ListEntry:
        if is_inline(reference):
            return ListEntry(key, reference)
        place = self.references.resolve(reference)
        if not place.is_local:
            return ListEntry(key, reference)
        try:
            status = with_retries(lambda: os.stat(place.uri), "a local file")  # noqa: PTH116 (it may hold any bytes)
        except EntryError:  # Reading gives the reason.
            return ListEntry(key, reference)
        if not stat.S_ISREG(status.st_mode):
            return ListEntry(key, reference)
        large = too_large(status.st_size, self.references.max_bytes)
        problem = large if status.st_size > self.references.max_bytes else None
        return ListEntry(key, reference, status.st_size, str(status.st_mtime_ns), problem)


def _first_rows(container: Container) -> list[ListRow]:
    """Read some rows, as far as there is no damage.

    Raises:
        EntryError: there is damage before the first one.
    """
    rows: list[ListRow] = []
    try:
        with container.open() as stream:
            rows.extend(islice(read_rows(stream, container.path), SAMPLED_ROWS))
    except EntryError:
        if not rows:
            raise
    return rows


def _tells_apart(rows: Iterable[ListRow], layout: Layout) -> bool:
    """Whether no key occurs twice among these rows; paths name their images, however often one occurs."""
    if layout.key is None or layout.key == layout.image:
        return True
    keys = [key for row in rows if (key := row.cells.get(layout.key))]
    return len(set(keys)) == len(keys)


def _is_name(text: str) -> bool:
    """Whether a text may be a key. Images as text are none, nor are URLs that may hold secrets in their queries."""
    is_url = "://" in text
    return bool(text) and not is_inline(text) and not (is_url and any(char in text for char in "?#@"))
