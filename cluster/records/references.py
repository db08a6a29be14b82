"""Images that a table only refers to, by path or URL."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

import fsspec

from cluster.filesystems import fetch, is_s3
from cluster.records.base import EntryError
from cluster.records.location import Location
from cluster.records.reading import patiently, read_local

SCHEMES = frozenset({"file", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "memory"})
"""What a table may refer to, beside the archive's own scheme. Others can run programs or unpack things."""


@dataclass(frozen=True, slots=True)
class References:
    """Reads what the rows of one table refer to.

    Attributes:
        location: of the archive.
        folder: of the table, in the archive's file system; relative paths start there.
        max_bytes: larger objects are an error.
    """

    location: Location
    folder: str
    max_bytes: int

    def read(self, reference: str) -> bytes:
        """The content of an object.

        Args:
            reference: a URL, or a path relative to the table; if that is local, also an absolute one.

        Raises:
            EntryError: it will never be read.
            StorageError: storage does not answer.
        """
        scheme, separator, path = reference.partition("://")
        if not separator:
            return self._relative(reference)
        if "::" in reference or scheme not in SCHEMES | {self.location.scheme}:
            raise EntryError(f"a URL of a kind that is not read: {scheme[:20]}")
        if scheme == "file":
            return self._local(path)
        return self._remote(Location(reference, self.location.storage))

    def _relative(self, path: str) -> bytes:
        if not path:
            raise EntryError("no image: empty path")
        if self.location.is_local or path.startswith("/"):
            return self._local(posixpath.join(self.folder, path))
        joined = posixpath.normpath(f"{self.folder}/{path}")
        return self._remote(Location(f"{self.location.scheme}://{joined}", self.location.storage))

    def _local(self, path: str) -> bytes:
        if not self.location.is_local:
            raise EntryError("a path of this machine in a table from elsewhere")
        return patiently(lambda: read_local(path, self.max_bytes), "a local file")

    def _remote(self, location: Location) -> bytes:
        data = patiently(lambda: _start_of(location, self.max_bytes + 1), location.shown)
        if len(data) > self.max_bytes:
            raise EntryError(f"too large: more than {self.max_bytes} bytes")
        return data


def _start_of(location: Location, count: int) -> bytes:
    filesystem, path = location.open()
    if is_s3(filesystem):
        return fetch(filesystem, path, limit=count)
    # Block size 0 streams over HTTP; servers need not know ranges then.
    options = {"block_size": 0} if isinstance(filesystem, fsspec.get_filesystem_class("http")) else {}
    with filesystem.open(path, "rb", **options) as file:
        return bytes(file.read(count))
