"""Hard links in tar files: a second name of a file, whose content is in the same tar, before the link."""

from __future__ import annotations

import hashlib
import io
import tarfile
from array import array
from collections.abc import Callable
from typing import IO

from cluster.records.base import EntryError
from cluster.records.names import printable
from cluster.records.reading import too_large
from cluster.records.streams import BUFFER_BYTES

SPARE_BYTES, MAX_EXPANSION = 1 << 30, 10
"""Limit of the bytes that all links of a tar read: a gigabyte, and ten times the tar before them. A link takes 512
bytes and can name a large file; in a packed tar, everything before the file is unpacked again."""

_DIGEST_BYTES = 16
_LARGEST = (1 << 63) - 1


class EarlierMembers:
    """The positions of the files of a tar that were read, so that links to them can be read.

    Args:
        open_tar: opens the tar.
        unpack: returns its content as a stream; the tar itself if it is not packed.
    """

    def __init__(
        self, open_tar: Callable[[], io.BufferedReader], unpack: Callable[[io.BufferedReader], IO[bytes]]
    ) -> None:
        self._open_tar, self._unpack = open_tar, unpack
        self._digests, self._offsets, self._sizes = bytearray(), array("Q"), array("Q")
        self._rows: dict[bytes, int] = {}
        self._indexed = 0
        self._tar: io.BufferedReader | None = None
        self._content: IO[bytes]
        self._position = 0
        self._read_bytes = 0

    def add(self, header: tarfile.TarInfo) -> None:
        """Remember a file, in 32 bytes, as any file may be the target of a later link."""
        if header.size < 0:
            return
        self._digests += _digest(header.name)
        self._offsets.append(header.offset_data)
        self._sizes.append(min(header.size, _LARGEST))  # a header can claim more

    def read(self, link: tarfile.TarInfo, max_bytes: int) -> bytes:
        """Read the file that a link names.

        Raises:
            EntryError: it is not before the link, is too large, or too much would have to be read.
        """
        target, row = printable(link.linkname), self._find(link.linkname)
        if row is None:
            raise EntryError(f"a hard link to {target}, which is not before it in this tar")
        self._rows[_digest(link.name)] = row
        size = self._sizes[row]
        if size > max_bytes:
            raise EntryError(too_large(size, max_bytes))
        self._move_to(self._offsets[row], size, SPARE_BYTES + MAX_EXPANSION * link.offset, target)
        return self._take(size)

    def close(self) -> None:
        """Close the tar, if a link was read."""
        if self._tar is not None:
            self._tar.close()

    def _find(self, name: str) -> int | None:
        for row in range(self._indexed, len(self._offsets)):
            self._rows[bytes(self._digests[row * _DIGEST_BYTES : (row + 1) * _DIGEST_BYTES])] = row
        self._indexed = len(self._offsets)
        return self._rows.get(_digest(name))

    def _move_to(self, offset: int, size: int, most: int, target: str) -> None:
        """Go to a file of the tar; in a packed one, by unpacking all that is before it, perhaps from the beginning."""
        if self._tar is None or (offset < self._position and self._content is not self._tar):
            self._rewind()
        is_packed = self._content is not self._tar
        self._read_bytes += size + (offset - self._position if is_packed else 0)
        if self._read_bytes > most:
            raise EntryError(f"a hard link to {target}: the links of this tar lead to too many bytes; unpack it first")
        while is_packed and self._position < offset:
            self._take(min(offset - self._position, BUFFER_BYTES))
        if not is_packed:
            self._content.seek(offset)

    def _rewind(self) -> None:
        self.close()
        self._tar = self._open_tar()
        self._content, self._position = self._unpack(self._tar), 0

    def _take(self, size: int) -> bytes:
        """Read exactly so many bytes, all of which were read before."""
        data = bytearray()
        while len(data) < size:
            piece = self._content.read(size - len(data))
            if not piece:
                raise EntryError("the content of a hard link is cut off")
            data += piece
        self._position += size
        return bytes(data)


def _digest(name: str) -> bytes:
    data = name.removeprefix("./").encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
