"""Tars packed with gzip, bzip2, xz or Zstandard: unpacked as a stream, within limits of size and memory.

The first bytes decide, not the suffix: a `.tar` is often packed. Several packed streams one after another, as parallel
packers write them, are one.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from typing import IO, Protocol, cast

import pyarrow as pa

from cluster.errors import ClusterError
from cluster.records.base import EntryError
from cluster.records.reading import first_line
from cluster.records.signatures import BZIP2, GZIP, HEAD_BYTES, XZ, ZSTANDARD, packing_of

PACKED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".tzst")

MAX_EXPANSION = 1100
"""How many times larger than the file its content may be. Gzip cannot exceed 1,032; bzip2 exceeds a million."""

MAX_DICTIONARY_BYTES = 128 << 20
"""Memory that unpacking may take: `xz -9` takes 65 MiB. The library has the same limit for Zstandard (`--long=27`)."""

_SMALL_FILE = 1 << 20
_INPUT_BYTES = 1 << 16
_PIECE_BYTES = 1 << 16
"""Unpacked at a time by pyarrow, which loses a piece in which the data ends or is damaged."""


class PackingError(EntryError):
    """A file with the suffix of a tar has another format, which is not read."""


class UnpackingError(ValueError):
    """Packed data is damaged, cut off, or expands without end."""


class Unpacker(Protocol):
    """The interface of `bz2.BZ2Decompressor` and `lzma.LZMADecompressor`."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether nothing more can be unpacked without further input."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What follows the stream, as far as it was passed in."""
        ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Unpack at most `max_length` bytes."""
        ...


def open_unpacked(raw: io.BufferedReader, size: int) -> IO[bytes]:
    """Return the content of a tar as a stream that can only be read, in pieces that may be short.

    Args:
        raw: the file, at its beginning.
        size: its bytes.

    Raises:
        PackingError: the file has another format, or a packing that is not read.
    """
    packing = packing_of(raw.read(HEAD_BYTES))
    raw.seek(0)
    if packing is None:
        return raw
    if packing == GZIP:
        return cast("IO[bytes]", _Gzip(fileobj=raw))
    readers: dict[str, Callable[[], _Reader]] = {
        BZIP2: lambda: _Streams(raw, bz2.BZ2Decompressor),
        XZ: lambda: _Streams(raw, _xz_unpacker),
        ZSTANDARD: lambda: _Zstandard(raw),
    }
    if packing not in readers:
        expected = "expected a tar, as it is or packed with gzip, bzip2, xz or Zstandard"
        raise PackingError(f"{packing}, which is not read here; {expected}")
    return cast("IO[bytes]", _Limited(readers[packing](), packing, size))


class _Gzip(gzip.GzipFile):
    """Returns everything unpacked before a truncation is reported, where the library would lose it."""

    def read(self, size: int | None = -1) -> bytes:
        return self.read1(-1 if size is None else size)


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Limited(io.RawIOBase):
    """Limits how much is unpacked, and turns the errors of the libraries into UnpackingError."""

    def __init__(self, reader: _Reader, packing: str, size: int) -> None:
        super().__init__()
        self._reader, self._packing = reader, packing
        self._left = MAX_EXPANSION * max(size, _SMALL_FILE)

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._reader.read(_INPUT_BYTES if size < 0 else size)
        except ClusterError:
            raise
        except (OSError, EOFError, ValueError, lzma.LZMAError, pa.ArrowException) as error:
            raise UnpackingError(f"{self._packing}, and unpacking fails: {first_line(error)}") from None
        self._left -= len(data)
        if self._left < 0:
            raise UnpackingError(f"{self._packing}, and it expands to more than {MAX_EXPANSION} times its size")
        return data


class _Streams:
    """Unpacks streams one after another, with zeros between them."""

    def __init__(self, raw: io.BufferedReader, new_unpacker: Callable[[], Unpacker]) -> None:
        self._raw, self._new_unpacker = raw, new_unpacker
        self._unpacker, self._rest = new_unpacker(), b""

    def read(self, size: int) -> bytes:
        while not self._unpacker.eof or self._begins_another():
            if data := self._unpacker.decompress(self._input(), size):
                return data
        return b""

    def _input(self) -> bytes:
        if not self._unpacker.needs_input:
            return b""
        data, self._rest = self._rest or self._raw.read(_INPUT_BYTES), b""
        if not data:
            raise EOFError("it ends in the middle")
        return data

    def _begins_another(self) -> bool:
        """Begin the stream after the one that has ended. Returns whether there is one."""
        rest = self._unpacker.unused_data.lstrip(b"\0")
        while not rest and (data := self._raw.read(_INPUT_BYTES)):
            rest = data.lstrip(b"\0")
        if rest:
            self._unpacker, self._rest = self._new_unpacker(), rest
        return bool(rest)


class _Zstandard:
    """Unpacks Zstandard by pyarrow."""

    def __init__(self, raw: io.BufferedReader) -> None:
        self._stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")

    def read(self, size: int) -> bytes:
        return bytes(self._stream.read(min(size, _PIECE_BYTES)))


def _xz_unpacker() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_DICTIONARY_BYTES)
