"""Directories of a TIFF: the integer tags of its pages, read without a library, so that unusual files have a name."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Tag(IntEnum):
    """The tags that matter here."""

    SUBFILE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    MAKE = 271
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS = 278
    STRIP_BYTES = 279
    PLANAR = 284
    PREDICTOR = 317
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTES = 325
    SUB_DIRECTORIES = 330
    EXTRAS = 338
    FORMAT = 339
    JPEG_TABLES = 347
    JPEG_START = 513
    JPEG_BYTES = 514
    SUBSAMPLING = 530
    BLACK_AND_WHITE = 532
    DNG_VERSION = 50706


_TAGS = frozenset(Tag)
_MAX_PAGES = 16
"""Pages that are searched for the image itself; it is nearly always the first."""
_MAX_VALUES = 1 << 20
"""Values of a tag that are read at most: no page that is decoded has more strips or tiles."""
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 5: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}
_FRACTION = 5
"""Type of values that are two numbers each, numerator and denominator."""


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """How a file stores numbers and offsets.

    Attributes:
        order: "<" or ">", the byte order.
        big: whether it is a BigTIFF, with offsets of 8 bytes.
    """

    order: str
    big: bool

    @property
    def header_bytes(self) -> int:
        """Bytes before the offset of the first page."""
        return 8 if self.big else 4

    @property
    def offset(self) -> str:
        """Format of an offset."""
        return f"{self.order}{'Q' if self.big else 'I'}"

    def unpack(self, layout: str, data: bytes, position: int) -> tuple[int, ...]:
        """Read numbers.

        Raises:
            EOFError: the file ends before them.
        """
        if position + struct.calcsize(self.order + layout) > len(data):
            raise EOFError("a directory lies behind the end")
        return struct.unpack_from(self.order + layout, data, position)


@dataclass(frozen=True, slots=True)
class TagEntry:
    """A tag as it is listed.

    Attributes:
        kind: number of the type of its values.
        count: of values.
        room: where the values lie, or the offset of them if they need more room.
    """

    kind: int
    count: int
    room: int


@dataclass(frozen=True, slots=True)
class Directory:
    """One page, or one image below a page. Values are read when they are needed.

    Attributes:
        data: the file.
        form: how it stores numbers.
        offset: where the directory lies.
        entries: the tags that matter here, by number.
        next: offset of the next page, 0 if it is the last.
    """

    data: bytes = field(repr=False)
    form: NumberFormat
    offset: int
    entries: Mapping[int, TagEntry]
    next: int

    def values(self, tag: int, most: int = _MAX_VALUES) -> tuple[int, ...]:
        """Return the values of a tag, at most so many: of a fraction two each; none if they are no whole numbers.

        Raises:
            EOFError: they lie behind the end of the file.
        """
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _TYPES or not entry.count:
            return ()
        each = 2 if entry.kind == _FRACTION else 1
        layout = f"{min(entry.count * each, most)}{_TYPES[entry.kind]}"
        start = entry.room
        if entry.count * each * struct.calcsize(f"<{_TYPES[entry.kind]}") > struct.calcsize(self.form.offset):
            (start,) = self.form.unpack(self.form.offset[1:], self.data, entry.room)
        return self.form.unpack(layout, self.data, start)

    def number(self, tag: int, default: int) -> int:
        """Return the first value of a tag."""
        return next(iter(self.values(tag, 1)), default)

    @property
    def is_reduced(self) -> bool:
        """Whether it is a small version of another image."""
        return bool(self.number(Tag.SUBFILE, 0) & 1)


def number_format_of(data: bytes) -> NumberFormat:
    """Return how a file stores numbers, by its first four bytes."""
    return NumberFormat("<" if data[:1] == b"I" else ">", b"+" in data[2:4])


def read_directories(data: bytes) -> Iterator[Directory]:
    """Yield the pages, and behind them the images below the first page.

    Raises:
        EOFError: a directory or a value lies behind the end of the file.
    """
    form, seen = number_format_of(data), set[int]()
    (offset,) = form.unpack(form.offset[1:], data, form.header_bytes)
    below: tuple[int, ...] = ()
    while offset and offset not in seen and len(seen) < _MAX_PAGES:
        seen.add(offset)
        page = _directory(data, form, offset)
        yield page
        below, offset = below or page.values(Tag.SUB_DIRECTORIES, _MAX_PAGES), page.next
    for offset in below:
        yield _directory(data, form, offset)


def _directory(data: bytes, form: NumberFormat, offset: int) -> Directory:
    counter, layout = ("Q", "HHQ") if form.big else ("H", "HHI")
    (count,) = form.unpack(counter, data, offset)
    start, size = offset + struct.calcsize(counter), 20 if form.big else 12
    end = start + count * size
    (following,) = form.unpack(form.offset[1:], data, end)
    entries: dict[int, TagEntry] = {}
    for position in range(start, end, size):
        tag, kind, length = form.unpack(layout, data, position)
        if tag in _TAGS:
            entries.setdefault(tag, TagEntry(kind, length, position + size - struct.calcsize(form.offset)))
    return Directory(data, form, offset, entries, following)
