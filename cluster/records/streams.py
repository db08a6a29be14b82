"""Containers as seekable streams, whose every request is retried; remote ones are read ahead in large ranges."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fsspec import AbstractFileSystem

from cluster.errors import ChangedError
from cluster.records.base import EntryError
from cluster.records.reading import CHANGED, check_regular, etag_of, with_retries
from cluster.storage.filesystems import fetch, is_s3
from cluster.storage.read_ahead import Ahead, Window

BUFFER_BYTES = 4 << 20
"""Bytes of one request of a stream."""

Span = tuple[int, int]
"""First byte of a part of a container, and the byte after its last."""

_REMOTE_BUFFER_BYTES = 1 << 16
"""Bytes that are copied at a time out of the response to a request."""
_S3_BLOCKS = Window(first=2, most=16)
_OTHER_BLOCKS = Window(first=1, most=4)
"""Requests in flight to servers that may not be made for many, or not for ranges."""


class Stream(io.BufferedReader):
    """A seekable file."""

    raw: _Ranges

    def __init__(self, raw: _Ranges, buffer_bytes: int) -> None:
        super().__init__(raw, buffer_bytes)

    def read_ahead(self, spans: Iterable[Span]) -> None:
        """Request parts of a remote container before they are read; a local one is read as usual.

        Args:
            spans: ascending. They will be read once from front to back, without what another reader of the same stream
                announces or reads between them.
        """
        self.raw.read_ahead(spans)


def open_stream(filesystem: AbstractFileSystem, path: str, size: int, what: str, version: str) -> Stream:
    """Open an object as a seekable file whose every request is retried.

    Reading raises ChangedError if an object of S3 changes meanwhile, so that pieces of two versions are never mixed,
    and EntryError if the server does not support ranges.
    """
    tag = etag_of(version)

    def read_range(span: Span) -> bytes:
        start, stop = span
        data = with_retries(lambda: fetch(filesystem, path, start=start, end=stop, tag=tag), what)
        if len(data) > stop - start:
            raise EntryError("its server does not support range requests")
        return data

    window = _S3_BLOCKS if is_s3(filesystem) else _OTHER_BLOCKS
    return Stream(_RemoteRanges(read_range, size, window), _REMOTE_BUFFER_BYTES)


def open_local_stream(opener: Callable[[], int], size: int, what: str) -> Stream:
    """Open a local file as a seekable file whose every read is retried, and raises ChangedError if the file changes.

    Args:
        opener: opens it and returns the descriptor.
        size: bytes, as listed.
        what: its name in error messages.
    """
    read_part = _LocalParts(opener, size, what)

    def read_range(span: Span) -> bytes:
        return with_retries(lambda: read_part(*span), what)

    return Stream(_Ranges(read_range, size), BUFFER_BYTES)


class _Ranges(io.RawIOBase):
    """Reads a file range by range, so that a failed request can be repeated."""

    def __init__(self, read_range: Callable[[Span], bytes], size: int) -> None:
        self._read_range, self._size = read_range, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        start, stop = self._position, min(self._size, self._position + len(buffer))
        if start >= stop:
            return 0
        data = self._read((start, stop))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def read_ahead(self, spans: Iterable[Span]) -> None:
        """Do nothing: the system reads local files ahead."""

    def _read(self, span: Span) -> bytes | memoryview:
        """Return the beginning of a part, at least a byte unless the file is shorter than it was."""
        return self._read_range(span)


class _RemoteRanges(_Ranges):
    """Reads an object by large requests, those that were announced before they are needed."""

    def __init__(self, read_range: Callable[[Span], bytes], size: int, window: Window) -> None:
        super().__init__(read_range, size)
        self._window = window
        self._announced: list[_Announced] = []
        self._start, self._data = 0, b""

    def read_ahead(self, spans: Iterable[Span]) -> None:
        self._announced.append(_Announced(self._read_range, spans, self._window))

    def close(self) -> None:
        for each in self._announced:
            each.close()
        super().close()

    def _read(self, span: Span) -> bytes | memoryview:
        start, stop = span
        for each in self._announced:
            if (data := each.read(start, stop)) is not None:
                return data
        if not self._start <= start < self._start + len(self._data):
            self._start, self._data = start, self._read_range((start, min(self._size, start + BUFFER_BYTES)))
        return memoryview(self._data)[start - self._start : stop - self._start]


class _Announced:
    """Parts of an object that are read once from front to back, requested block by block ahead of the reader."""

    def __init__(self, read_range: Callable[[Span], bytes], spans: Iterable[Span], window: Window) -> None:
        blocks = list(_blocks(spans))
        self._left = deque(blocks)
        self._ahead = Ahead(read_range, blocks, window, size_of=lambda block: block[1] - block[0])
        self._start, self._data = 0, b""
        self._before = b""

    def read(self, start: int, stop: int) -> memoryview | None:
        """Return the beginning of a part; None if it is not in the last two blocks or in what follows them.

        A buffered reader is a little ahead. When it comes back from another part, it may need the block before.
        """
        while start >= self._start + len(self._data):
            if not self._left or not self._left[0][0] <= start < self._left[-1][1]:
                return None
            begin, _ = self._left.popleft()
            data = next(self._ahead)  # If it fails, the last block stays what it is.
            self._before = self._data if begin == self._start + len(self._data) else b""
            self._start, self._data = begin, data
        if start >= self._start:
            return memoryview(self._data)[start - self._start : stop - self._start]
        if start >= self._start - len(self._before):
            return memoryview(self._before)[start - self._start :][: stop - start]
        return None

    def close(self) -> None:
        self._ahead.close()


def _blocks(spans: Iterable[Span]) -> Iterator[Span]:
    """Cut parts into requests."""
    for start, stop in spans:
        for begin in range(start, stop, BUFFER_BYTES):
            yield begin, min(stop, begin + BUFFER_BYTES)


class _LocalParts:
    """Reads parts of a local file, all of the same version of the same file."""

    def __init__(self, opener: Callable[[], int], size: int, what: str) -> None:
        self._opener, self._size, self._what = opener, size, what
        self._file: tuple[int, ...] | None = None

    def __call__(self, start: int, stop: int) -> bytes:
        with os.fdopen(self._opener(), "rb", buffering=0) as file:
            check_regular(file.fileno())
            file.seek(start)
            data = file.read(stop - start)
            status = os.fstat(file.fileno())
        version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if status.st_size != self._size or version != (self._file or version):
            raise ChangedError(f"{self._what} {CHANGED}")
        self._file = version
        return data
