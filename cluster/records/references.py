"""Images that a table only refers to, by path or URL."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from cluster.records.base import EntryError
from cluster.records.location import Location
from cluster.records.names import printable
from cluster.records.reading import patiently, read_local, read_remote

SCHEMES = frozenset({"file", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "memory"})
"""What a table may refer to at all, beside the archive's own scheme. Others can run programs or unpack things."""

_OF_HOSTS = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class References:
    """Reads what the rows of one table refer to.

    A table leads to places of its own kind: one on this machine to files of this machine, one in S3 to S3, one on a web
    server to that server. Where else it may lead is said by whoever runs the job, or a table from somewhere would
    make this machine ask servers that only this machine can reach.

    Attributes:
        location: of the archive.
        folder: of the table, in the archive's file system; relative paths start there.
        max_bytes: larger objects are an error.
        schemes: further kinds of URL, of `SCHEMES`, that are followed.
    """

    location: Location
    folder: str
    max_bytes: int
    schemes: frozenset[str] = frozenset()

    def read(self, reference: str) -> bytes:
        """The content of an object.

        Args:
            reference: a URL, or a path relative to the table; if that is local, also an absolute one.

        Raises:
            EntryError: it will never be read.
            StorageError: storage does not answer.
        """
        place = self.place(reference)
        if place.is_local:
            return patiently(lambda: read_local(place.uri, self.max_bytes), "a local file")
        return self._remote(place)

    def place(self, reference: str) -> Location:
        """Where a reference leads, without looking there.

        Raises:
            EntryError: nowhere, or where this table may not lead.
        """
        if not isinstance(reference, str):
            raise EntryError(f"no path or URL: {type(reference).__name__}")
        if not reference or "\0" in reference:
            raise EntryError("no path: it holds a NUL byte" if reference else "no image: empty path")
        scheme, separator, path = reference.partition("://")
        if not separator:
            return self._relative(reference)
        if "::" in reference or scheme not in SCHEMES | {self.location.scheme}:
            raise EntryError(f"a URL of a kind that is not read: {printable(scheme[:20])}")
        if scheme == "file":
            return self._local(path)
        if not self._is_own(scheme, path) and scheme not in self.schemes:
            raise EntryError(f'this table may not lead to {scheme} URLs: allow it with schemes = ["{scheme}"]')
        return Location(reference, self.location.storage)

    def _is_own(self, scheme: str, path: str) -> bool:
        if scheme != self.location.scheme:
            return False
        host = self.location.uri.partition("://")[2].partition("/")[0]
        return scheme not in _OF_HOSTS or path.partition("/")[0] == host

    def _relative(self, path: str) -> Location:
        if self.location.is_local or path.startswith("/"):
            return self._local(posixpath.join(self.folder, path))
        joined = posixpath.normpath(f"{self.folder}/{path}")
        return Location(f"{self.location.scheme}://{joined}", self.location.storage)

    def _local(self, path: str) -> Location:
        if not self.location.is_local:
            raise EntryError("a path of this machine in a table from elsewhere")
        return Location(path)

    def _remote(self, location: Location) -> bytes:
        filesystem, path = location.open()
        return patiently(lambda: read_remote(filesystem, path, self.max_bytes), location.shown)
