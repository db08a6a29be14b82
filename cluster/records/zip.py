"""Zip files: listed from their central directory, cut into shards, read member by member, never extracted to disk."""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import BinaryIO

from cluster.errors import ChangedError
from cluster.fingerprint import fingerprint
from cluster.records.base import EntryError, Lister, ReadOptions, Record, Shard, Skipped
from cluster.records.chunking import chunk
from cluster.records.containers import Archive, Container, unreadable_shard
from cluster.records.members import Samples, is_record, refusal
from cluster.records.reading import CHANGED, too_large
from cluster.records.streams import Span
from cluster.records.zip_directory import (
    LOCAL_HEADER,
    LOCAL_MARK,
    DamagedError,
    Directory,
    ZipEntry,
    find_directory,
    read_entry,
)

MAX_EXPANSION = 1100
"""How many times larger than its packed bytes a member may be. Deflate reaches 1,032."""

_SMALL = 1 << 10
_SPARE_BYTES = 1 << 10
"""Of a local header, for fields that only it has. Where they take more, the rest is requested by itself."""
_GAP_BYTES = 256 << 10
"""Bytes between two members that are rather read than skipped by another request."""
_STORED, _DEFLATE, _BZIP2 = 0, 8, 12
_METHODS = {
    1: "shrink",
    6: "implode",
    9: "Deflate64",
    14: "LZMA",
    93: "Zstandard",
    95: "XZ",
    96: "JPEG",
    97: "WavPack",
    98: "PPMd",
    99: "AES encryption",
}


def open_zips(archive: Archive) -> Lister:
    """Open zip files as an archive."""
    return partial(archive.shards, partial(_split, options=archive.options))


def _split(container: Container, skipped: Skipped, *, options: ReadOptions) -> Iterator[Shard]:
    """Cut a zip by its directory; its members are not read."""
    listing = _Listing(container, options, skipped)
    for group in chunk(listing.entries(), key=lambda entry: entry.name, target=options.shard_records):
        contents = [[entry.member.key, entry.size, entry.crc, entry.position, entry.problem] for entry in group]
        payload = ZipSlice(container, listing.shift, tuple(group))
        yield Shard(fingerprint([container.identity, contents]), len(group), payload)
    if listing.problem is not None:
        yield unreadable_shard(container.name, listing.problem)


@dataclass(slots=True)
class _Listing:
    """Lists the members of a zip that become records.

    Attributes:
        container: the zip.
        options: which members are read.
        skipped: counts hidden members and sidecars.
        shift: bytes of the file before the zip proper, once `entries` yields.
        problem: why the zip could not be listed completely, once `entries` has ended; None if it was.
    """

    container: Container
    options: ReadOptions
    skipped: Skipped
    shift: int = 0
    problem: str | None = None

    def entries(self) -> Iterator[ZipEntry]:
        """Yield the members, each with its problem if it has one."""
        try:
            with self.container.open() as stream:
                directory = find_directory(stream, self.container.size)
                self.shift, claimed = directory.shift, 0
                samples = Samples(self.options.component)
                for entry in directory.entries(stream):
                    if not is_record(entry.member, self.skipped, self.options.component):
                        continue
                    problem = _problem(entry, self.options.max_bytes) or _contradiction(entry, directory, claimed)
                    claimed += 0 if problem else LOCAL_HEADER.size + entry.packed_size
                    yield replace(entry, problem=problem or samples.second_image(entry.member.name))
                self.problem = directory.surplus
        except EntryError as error:
            self.problem = str(error)


@dataclass(frozen=True, slots=True)
class ZipSlice:
    """Some members of a zip, with random access.

    Attributes:
        container: the zip.
        shift: bytes of the file before the zip proper.
        entries: as the directory describes them.
    """

    container: Container
    shift: int
    entries: tuple[ZipEntry, ...] = field(repr=False)

    def read(self, *, threads: int, skipped: Skipped) -> Iterator[Record]:
        """See `read_shard`. A zip is read by one thread."""
        del threads, skipped
        with self.container.open() as stream:
            stream.read_ahead(self._spans())
            for entry in self.entries:
                yield self._record(stream, entry)

    def _spans(self) -> list[Span]:
        """Return the parts of the file that hold the members, neighbours as one; none if they are in another order."""
        spans: list[Span] = []
        for entry in self.entries:
            if entry.problem is not None:
                continue
            start = entry.offset + self.shift
            names = len(entry.name.encode("utf-8", "surrogatepass")) + _SPARE_BYTES
            stop = min(self.container.size, start + LOCAL_HEADER.size + names + entry.packed_size)
            if not spans or start > spans[-1][1] + _GAP_BYTES:
                spans.append((start, stop))
            elif start < spans[-1][0]:
                return []
            else:
                spans[-1] = (spans[-1][0], max(stop, spans[-1][1]))
        return spans

    def select(self, rows: Sequence[int]) -> ZipSlice:
        """See `RandomAccess.select`."""
        return replace(self, entries=tuple(self.entries[row] for row in rows))

    def _record(self, stream: BinaryIO, entry: ZipEntry) -> Record:
        try:
            return Record(entry.member.key, self._data(stream, entry), None, self.container.name)
        except EntryError as error:
            return Record(entry.member.key, None, str(error), self.container.name)

    def _data(self, stream: BinaryIO, entry: ZipEntry) -> bytes:
        if entry.problem is not None:
            raise EntryError(entry.problem)
        try:
            return _unpack(_read_packed(stream, entry, self.shift), entry)
        except DamagedError:
            self._check_unchanged(stream, entry)
            raise

    def _check_unchanged(self, stream: BinaryIO, entry: ZipEntry) -> None:
        """Raise ChangedError if the directory no longer lists this entry: it may be sound, and is another zip's."""
        try:
            now, _ = read_entry(stream, entry.position)
        except DamagedError:
            now = None
        if now != entry:
            raise ChangedError(f"{self.container.name} {CHANGED}")


def _problem(entry: ZipEntry, max_bytes: int) -> str | None:
    """Return why a member is not read, by its own record in the directory; None if it is."""
    if reason := refusal(entry.member, max_bytes):
        return reason
    if entry.packed_size > max_bytes:
        return too_large(entry.packed_size, max_bytes)
    if entry.is_encrypted:
        return "encrypted; decrypt the archive first"
    if entry.method not in (_STORED, _DEFLATE, _BZIP2):
        name = _METHODS.get(entry.method, f"method {entry.method}")
        return f"compressed with {name}, which is not read; expected stored, deflate or bzip2"
    if entry.method == _STORED and entry.size != entry.packed_size:
        return f"damaged: {entry.size} bytes are stored as {entry.packed_size}"
    if entry.size > MAX_EXPANSION * max(entry.packed_size, _SMALL):
        return f"its {entry.packed_size} bytes would expand to {entry.size}, more than {MAX_EXPANSION} times as many"
    return None


def _contradiction(entry: ZipEntry, directory: Directory, claimed: int) -> str | None:
    """Return why a member does not fit into the file, beside those before it, which claim so many bytes of it."""
    packed = LOCAL_HEADER.size + entry.packed_size
    if entry.offset + directory.shift + packed > directory.start:
        return "damaged: its content would lie outside the file"
    if claimed + packed > directory.start:
        return "damaged: the members overlap, they claim more bytes than the file has"
    return None


def _read_packed(stream: BinaryIO, entry: ZipEntry, shift: int) -> bytes:
    stream.seek(entry.offset + shift)
    header = stream.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size or header[:4] != LOCAL_MARK:
        raise DamagedError("damaged: it is not where the directory says")
    *_, name_bytes, extra_bytes = LOCAL_HEADER.unpack(header)
    stream.seek(entry.offset + shift + LOCAL_HEADER.size + name_bytes + extra_bytes)
    return stream.read(entry.packed_size)


def _unpack(packed: bytes, entry: ZipEntry) -> bytes:
    """Unpack a member, at most one byte more than the directory claims.

    Raises:
        DamagedError: it is not what the directory claims.
    """
    data = packed
    if entry.method != _STORED:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS) if entry.method == _DEFLATE else bz2.BZ2Decompressor()
        try:
            data = unpacker.decompress(packed, entry.size + 1)
        except (zlib.error, OSError, ValueError) as error:
            raise DamagedError(f"damaged: {error}") from None
    if len(data) != entry.size:
        found = f"more than {entry.size}" if len(data) > entry.size else len(data)
        raise DamagedError(f"damaged: it holds {found} bytes, the directory claims {entry.size}")
    if zlib.crc32(data) != entry.crc:
        raise DamagedError("damaged: its checksum (CRC-32) is wrong")
    return data
