"""Read images that a table refers to by path or URL."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from cluster.records.base import EntryError
from cluster.records.inline_images import decode_inline, is_inline
from cluster.records.location import Location
from cluster.records.names import printable
from cluster.records.reading import read_local, read_remote, with_retries

SCHEMES = frozenset({"file", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "memory"})
"""Schemes that a table may refer to, beside the archive's own. Others can run programs or unpack archives."""

_OF_HOSTS = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class References:
    """Reads the objects that the rows of one table refer to.

    A local table may refer to local files, one in S3 to S3, one on a web server to that server. The job must allow
    every other scheme: otherwise a table from elsewhere could make this machine send requests to servers that only
    this machine can reach.

    Attributes:
        location: of the archive.
        folder: of the table, in the archive's file system; relative paths are relative to it.
        max_bytes: a larger object is an error.
        schemes: further schemes, of `SCHEMES`, that are followed.
    """

    location: Location
    folder: str
    max_bytes: int
    schemes: frozenset[str] = frozenset()

    def read(self, reference: str) -> bytes:
        """Read an object, or the image that the reference itself is.

        Args:
            reference: a URL, or a path relative to the table; if that is local, also an absolute one; or an image as a
                data: URI or as base64.

        Raises:
            EntryError: it cannot be read, now or later.
            StorageError: storage does not answer.
        """
        if isinstance(reference, str) and is_inline(reference):
            return decode_inline(reference, self.max_bytes)
        place = self.resolve(reference)
        if place.is_local:
            return with_retries(lambda: read_local(place.uri, self.max_bytes), "a local file")
        return self._remote(place)

    def resolve(self, reference: str) -> Location:
        """Return the location of a reference, without accessing it.

        Raises:
            EntryError: it is no reference, or this table may not refer to it.
        """
        if not isinstance(reference, str):
            raise EntryError(f"expected a path or URL, got {type(reference).__name__}")
        if not reference or "\0" in reference:
            raise EntryError("a path with a NUL byte" if reference else "no image: empty path")
        scheme, separator, path = reference.partition("://")
        if not separator:
            return self._relative(reference)
        if "::" in reference or scheme not in SCHEMES | {self.location.scheme}:
            raise EntryError(f"unsupported kind of URL: {printable(scheme[:20])}")
        if scheme == "file":
            return self._local(path)
        if not self._is_own(scheme, path) and scheme not in self.schemes:
            raise EntryError(f'{scheme} URLs are not followed from this table; allow them with schemes = ["{scheme}"]')
        return Location(reference, self.location.storage)

    def _is_own(self, scheme: str, path: str) -> bool:
        if scheme != self.location.scheme:
            return False
        host = self.location.uri.partition("://")[2].partition("/")[0]
        return scheme not in _OF_HOSTS or path.partition("/")[0] == host

    def _relative(self, path: str) -> Location:
        if self.location.is_local or path.startswith("/"):
            return self._local(posixpath.join(self.folder, path))
        if self.location.scheme in _OF_HOSTS:  # Their paths in the file system are whole URLs; "..": on the same host.
            host, _, folder = self.folder.partition("://")[2].partition("/")
            joined = host + posixpath.normpath(f"/{folder}/{path}")
        else:
            joined = posixpath.normpath(f"{self.folder}/{path}")
        return Location(f"{self.location.scheme}://{joined}", self.location.storage)

    def _local(self, path: str) -> Location:
        if not self.location.is_local:
            raise EntryError("a local path in a table that is not local")
        return Location(path)

    def _remote(self, location: Location) -> bytes:
        filesystem, path = location.open()
        return with_retries(lambda: read_remote(filesystem, path, self.max_bytes), location.redacted)
