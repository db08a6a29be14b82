"""Tar headers of hostile archives: refuse what takes the library very long or makes it read too far.

Python's `tarfile` looks for records of extended headers with expressions whose time grows with the square of a header
(CVE-2024-6232 and its like), and reads as many headers into each other as there are.
"""

from __future__ import annotations

import re
import tarfile
from typing import IO, Any, Self, cast

MAX_NAME_BYTES = 1 << 20
_PAX_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_NAME_TYPES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, *_PAX_TYPES)
_LENGTH = re.compile(rb"(\d{1,7}) ")
_LONG_NUMBER = re.compile(rb"\d{256}")


class Header(tarfile.TarInfo):
    """A member's header. Stores in the archive why no further header could be read, which the library discards."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except Exception as error:
            cast("Any", tarfile).ending = error
            raise

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _NAME_TYPES and header.size > MAX_NAME_BYTES:
            raise tarfile.HeaderError(f"a member name of {header.size} bytes, at most {MAX_NAME_BYTES} are read")
        return header

    def _proc_member(self, archive: tarfile.TarFile) -> Self:
        """Check extended headers. The library calls this for every header and lets subclasses override it."""
        process = super()._proc_member  # type: ignore[misc]
        if self.type not in _PAX_TYPES:
            return cast("Self", process(archive))
        stream = cast("IO[bytes]", archive.fileobj)
        archive.fileobj = cast("Any", _Checked(stream, self.size))
        try:
            return cast("Self", process(archive))
        finally:
            archive.fileobj = stream


class _Checked:
    """A stream that checks its next read, an extended header, and passes everything else through."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._size, self._is_first = stream, size, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if self._is_first:
            self._is_first = False
            check_records(data[: self._size])
        return data


def check_records(data: bytes) -> None:
    """Raise for an extended header that the library would take too long to parse.

    Args:
        data: an extended header: records "length key=value" and a line end, zeros after them.

    Raises:
        tarfile.HeaderError: it is not such a list, or has a number of hundreds of digits.
    """
    if _LONG_NUMBER.search(data):
        raise tarfile.HeaderError("an extended header with a number of hundreds of digits")
    position = 0
    while position < len(data) and data[position]:
        length = _LENGTH.match(data, position)
        end = position + int(length[1]) if length else 0
        if length is None or end <= length.end() or data[end - 1 : end] != b"\n":
            raise tarfile.HeaderError("an extended header that is not a list of records")
        if data.find(b"=", length.end(), end) < 0:
            raise tarfile.HeaderError("an extended header with a record that has no value")
        position = end
