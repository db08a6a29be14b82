"""The central directory of a zip file, read record by record and without trusting it.

PKWARE's APPNOTE.TXT 6.3: sections 4.3.7 (local headers), 4.3.12 (directory), 4.3.14 to 4.3.16 (end records), 4.4
(fields) and 4.5.3 (zip64). Python's `zipfile` is not used: it keeps all members in memory, gives up the whole file for
one damaged record, and reads members that overlap.
"""

from __future__ import annotations

import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from cluster.records.base import EntryError
from cluster.records.members import Member, MemberType
from cluster.records.names import printable
from cluster.records.signatures import HEAD_BYTES, packing_of

LOCAL_HEADER = struct.Struct("<4s5H3L2H")
LOCAL_MARK = b"PK\x03\x04"

_TAIL_BYTES = 1 << 20
"""Read at the end of a file: more than end records and a comment take, and most directories with them."""
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_RECORD = struct.Struct("<4s6H3L5H2L")
_END_MARK, _END64_MARK, _LOCATOR_MARK, _RECORD_MARK = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02"
_ENCRYPTED, _UTF8 = 1 << 0, 1 << 11
_DOS, _UNIX_SYSTEMS = 0, (3, 19)
_ZIP64_FIELD, _IN_ZIP64_FIELD = 1, 0xFFFFFFFF


class DamagedError(EntryError):
    """A zip file contradicts itself; or it is no longer the one that was listed."""


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """A member of a zip file, as the directory describes it.

    Attributes:
        name: its path, with "/".
        type: what it is.
        size: bytes of its content.
        packed_size: bytes that it takes in the file.
        crc: CRC-32 of its content.
        method: number of the compression method.
        is_encrypted: whether a password is needed.
        offset: of its local header, from the first byte of the zip file proper.
        position: of its record in the directory, from the first byte of the file.
        problem: why it is not read; None if it is.
    """

    name: str
    type: MemberType
    size: int
    packed_size: int
    crc: int
    method: int
    is_encrypted: bool
    offset: int
    position: int
    problem: str | None = None

    @property
    def member(self) -> Member:
        """What decides whether it is read."""
        return Member(self.name, self.size, self.type)


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the central directory of a file is.

    Attributes:
        start: its first byte, in the file.
        stop: the byte after its last.
        members: their number, as the end record claims.
        shift: bytes of the file before the zip file proper, as in a program that extracts itself.
        is_zip64: whether numbers have 64 bits; otherwise the number of members has 16.
        surplus: what else is in the file and not read; None if nothing is.
    """

    start: int
    stop: int
    members: int
    shift: int
    is_zip64: bool
    surplus: str | None

    def entries(self, stream: BinaryIO) -> Iterator[ZipEntry]:
        """Read the members in the order of the directory.

        Raises:
            DamagedError: what follows the last one that was yielded cannot be read.
        """
        position, count, last = self.start, 0, "its beginning"
        while position < self.stop:
            try:
                entry, position = read_entry(stream, position)
            except DamagedError as error:
                raise DamagedError(f"damaged: its directory cannot be read after {last}: {error}") from None
            yield entry
            count, last = count + 1, printable(entry.name)
        if count != (self.members if self.is_zip64 else self.members + (count & ~0xFFFF)):
            raise DamagedError(f"damaged: its directory lists {count} members, its end record claims {self.members}")


def find_directory(stream: BinaryIO, size: int) -> Directory:
    """Find the directory of a file of this many bytes.

    Raises:
        DamagedError: it is no zip file, or is cut off, or is one part of several.
    """
    start = max(0, size - _TAIL_BYTES)
    stream.seek(start)
    tail = stream.read(size - start)
    if (found := _find_end_record(tail)) is None:
        raise DamagedError(_no_zip(stream))
    at = end = found
    _, disk, first_disk, _, members, length, offset, comment = _END.unpack_from(tail, end)
    is_zip64 = end >= _LOCATOR.size and tail.startswith(_LOCATOR_MARK, end - _LOCATOR.size)
    if is_zip64:
        at = _find_end_record_64(tail, end - _LOCATOR.size, start)
        _, _, _, _, disk, first_disk, _, members, length, offset = _END64.unpack_from(tail, at)
    if disk or first_disk:
        raise DamagedError("one part of a split zip file; join its parts first")
    stop = start + at
    shift = stop - length - offset
    if shift < 0:
        raise DamagedError("damaged or cut off: its beginning is missing")
    surplus = _find_surplus(stream, shift, tail[end + _END.size + comment :])
    return Directory(stop - length, stop, members, shift, is_zip64, surplus)


def read_entry(stream: BinaryIO, position: int) -> tuple[ZipEntry, int]:
    """Read the record at a position of the file. Returns it with the position of the next one.

    Raises:
        DamagedError: there is none, or it contradicts itself.
    """
    stream.seek(position)
    data = stream.read(_RECORD.size)
    if len(data) < _RECORD.size or data[:4] != _RECORD_MARK:
        raise DamagedError("no record of a member")
    _, made_by, _, flags, method, _, _, crc, packed, size, *lengths, _, _, attributes, offset = _RECORD.unpack(data)
    variable = stream.read(sum(lengths))
    if len(variable) < sum(lengths):
        raise DamagedError("a record that is cut off")
    system = made_by >> 8
    name = _decode(variable[: lengths[0]], flags, system)
    extra = variable[lengths[0] : lengths[0] + lengths[1]]
    size, packed, offset = _from_zip64(extra, [size, packed, offset])
    entry = ZipEntry(
        name=name,
        type=_type(name, size, attributes >> 16 if system in _UNIX_SYSTEMS else 0),
        size=size,
        packed_size=packed,
        crc=crc,
        method=method,
        is_encrypted=bool(flags & _ENCRYPTED),
        offset=offset,
        position=position,
    )
    return entry, position + _RECORD.size + sum(lengths)


def _no_zip(stream: BinaryIO) -> str:
    """Return what a file without an end record is."""
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    packing = None if head.startswith(LOCAL_MARK) else packing_of(head)
    return f"{packing}, not a zip file" if packing else "not a zip file, or cut off: it has no end record"


def _find_end_record(tail: bytes) -> int | None:
    """Return where the end record is in the last bytes of a file; None if it has none.

    A comment may follow it, and may contain what looks like another one. A record whose comment ends with the file is
    preferred to one that is followed by something else.
    """
    exact = loose = None
    for match in re.finditer(re.escape(_END_MARK), tail[: max(0, len(tail) - _END.size + len(_END_MARK))]):
        at = match.start()
        stop = at + _END.size + _END.unpack_from(tail, at)[-1]
        exact = at if stop == len(tail) else exact
        loose = at if stop < len(tail) else loose
    return loose if exact is None else exact


def _find_surplus(stream: BinaryIO, shift: int, rest: bytes) -> str | None:
    """Report a zip file before this one, or data after it: members may be there that the directory does not list."""
    if rest.strip(b"\0"):
        return "more data follows its end record and is not read"
    if not shift:
        return None
    stream.seek(0)
    precedes = stream.read(len(LOCAL_MARK)) == LOCAL_MARK
    return "another zip file precedes the last one in it and is not read" if precedes else None


def _find_end_record_64(tail: bytes, locator: int, start: int) -> int:
    """Return where the zip64 end record is in the last bytes of a file: before its locator, or where that points."""
    for at in (locator - _END64.size, _LOCATOR.unpack_from(tail, locator)[2] - start):
        if at >= 0 and tail[at : at + 4] == _END64_MARK and at + _END64.size <= locator:
            return at
    raise DamagedError("damaged: it has no zip64 end record where it should be")


def _from_zip64(extra: bytes, numbers: list[int]) -> list[int]:
    """Take the numbers that have no place in 32 bits from the extra field of zip64, in this order."""
    if _IN_ZIP64_FIELD not in numbers:
        return numbers
    field = _extra_field(extra, _ZIP64_FIELD)
    count = numbers.count(_IN_ZIP64_FIELD)
    if len(field) < 8 * count:
        raise DamagedError("a record without its zip64 sizes")
    large = iter(struct.unpack_from(f"<{count}Q", field))
    return [next(large) if number == _IN_ZIP64_FIELD else number for number in numbers]


def _extra_field(extra: bytes, wanted: int) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def _decode(name: bytes, flags: int, system: int) -> str:
    """Decode a name: UTF-8 even where it is not marked as such, as macOS writes it; otherwise code page 437.

    Some tools for Windows separate folders by backslashes.
    """
    try:
        decoded = name.decode()
    except UnicodeDecodeError:
        decoded = name.decode("utf-8", "surrogateescape") if flags & _UTF8 else name.decode("cp437")
    return decoded.replace("\\", "/") if system == _DOS else decoded


def _type(name: str, size: int, mode: int) -> MemberType:
    """Return what a member is, by its name and its Unix mode (0 if it has none). A folder has no content."""
    if name.endswith("/") or stat.S_ISDIR(mode):
        return MemberType.SPECIAL if size else MemberType.DIRECTORY
    if stat.S_ISLNK(mode):
        return MemberType.LINK
    return MemberType.FILE if stat.S_IFMT(mode) in (0, stat.S_IFREG) else MemberType.SPECIAL
