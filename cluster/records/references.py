"""Read images that a table refers to by path or URL.

A path is taken as it is written. Tables made on other systems write backslashes, percent escapes and blanks around a
path: such a path is looked up under its other reading as well. If both readings lead to a file, that is an error.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote

from cluster.records.base import EntryError
from cluster.records.inline_images import decode_inline, is_inline
from cluster.records.location import Location
from cluster.records.names import printable
from cluster.records.reading import NOT_FOUND, ordered_map, read_local, read_remote, with_retries

T = TypeVar("T")

SCHEMES = frozenset({"file", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "memory"})
"""Schemes that a table may refer to, beside the archive's own. Others can run programs or unpack archives."""

_OF_HOSTS = frozenset({"http", "https"})
_FILE_URL = re.compile(r"\s*file:/", re.IGNORECASE)


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
        start: what messages call the folder, after its path or URL; "" if they do not name it.
    """

    location: Location
    folder: str
    max_bytes: int
    schemes: frozenset[str] = frozenset()
    start: str = "the folder of the table"

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
        return self.find(reference, self._content)

    def version(self, reference: str) -> str:
        """Return size and time of the local file that a reference leads to; "" if there is none.

        Raises:
            StorageError: storage does not answer.
        """
        try:
            return "" if is_inline(reference) else self.find(reference, _local_version)
        except EntryError:  # Reading gives the reason.
            return ""

    def read_all(self, references: Sequence[str], *, threads: int) -> Iterator[bytes | EntryError]:
        """Read objects, in order; for each its content, or the reason why it cannot be read."""

        def attempt(reference: str) -> bytes | EntryError:
            try:
                return self.read(reference)
            except EntryError as error:
                return error

        yield from ordered_map(attempt, references, threads)

    def find(self, reference: str, look: Callable[[Location], T]) -> T:
        """Find the object that a reference leads to, under any reading of it.

        Args:
            reference: see `read`.
            look: returns the result for an object, such as its content; raises EntryError(NOT_FOUND) if there is none.

        Raises:
            EntryError: there is no such object, `look` fails, or two readings lead to different objects.
            StorageError: storage does not answer.
        """
        found: dict[str, T] = {}
        for place in self._readings(reference):
            try:
                found[place.uri] = look(place)
            except EntryError as error:
                if str(error) != NOT_FOUND:
                    raise
        if len(found) > 1:
            both = " and ".join(repr(printable(posixpath.basename(uri))) for uri in found)
            raise EntryError(f"two files can be meant, {both}; rename one, or write the path without escapes")
        if not found:
            raise EntryError(self._missing(reference))
        return next(iter(found.values()))

    def _readings(self, reference: str) -> Iterator[Location]:
        """Yield the places that a reference can mean, the literal one first."""
        yield self.resolve(reference)
        if self.location.scheme in _OF_HOSTS:
            return  # Servers take escapes and plain text for the same.
        for other in _other_readings(reference):
            try:
                yield self.resolve(other)
            except EntryError:
                continue  # No place that this table may refer to.

    def _missing(self, reference: str) -> str:
        """Describe a reference that leads nowhere: where it starts, and what is unusual about it."""
        is_relative = "://" not in reference and not reference.startswith("/")
        where = f"{NOT_FOUND} in {self._folder_name}, {self.start}" if is_relative and self.start else NOT_FOUND
        return "; ".join([where, *_oddities(reference)])

    @property
    def _folder_name(self) -> str:
        return printable(self._relative("").redacted.rstrip("/")) or "/"

    def resolve(self, reference: str) -> Location:
        """Return the location of a reference, without accessing it.

        Raises:
            EntryError: it is no reference, or this table may not refer to it.
        """
        if not isinstance(reference, str):
            raise EntryError(f"expected a path or URL, got {type(reference).__name__}")
        if not reference or "\0" in reference:
            raise EntryError("a path with a NUL byte" if reference else "no image: empty path")
        if _FILE_URL.match(reference):
            return self._local(_path_of(reference))
        scheme, separator, path = reference.strip().partition("://")
        if not separator:
            return self._relative(reference)
        scheme = scheme.lower()
        if "::" in reference or scheme not in SCHEMES | {self.location.scheme}:
            raise EntryError(f"unsupported kind of URL: {printable(scheme[:20])}")
        if not self._is_own(scheme, path) and scheme not in self.schemes:
            raise EntryError(f'{scheme} URLs are not followed from this table; allow them with schemes = ["{scheme}"]')
        return Location(f"{scheme}://{path}", self.location.storage)

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

    def _content(self, place: Location) -> bytes:
        if place.is_local:
            return with_retries(lambda: read_local(place.uri, self.max_bytes), "a local file")
        filesystem, path = place.open()
        return with_retries(lambda: read_remote(filesystem, path, self.max_bytes), place.redacted)


def _local_version(place: Location) -> str:
    if not place.is_local:
        return ""  # Looking each up would take a request.
    status = with_retries(lambda: os.stat(place.uri), "a local file")  # noqa: PTH116 (it may hold any bytes)
    return f"{status.st_size} {status.st_mtime_ns}"


def _other_readings(reference: str) -> list[str]:
    """Return how else a path may be meant: with slashes, without escapes, without blanks around it; URLs have none."""
    if _FILE_URL.match(reference):
        literal = _path_of(reference, decoded=False)
        return [literal] if literal != _path_of(reference) else []
    if "://" in reference:
        return []
    steps: tuple[Callable[[str], str], ...] = (str.strip, lambda path: path.replace("\\", "/"), _unescaped)
    readings = []
    for chosen in itertools.product((False, True), repeat=len(steps)):
        reading = reference
        for step in itertools.compress(steps, chosen):
            reading = step(reading)
        readings.append(reading)
    return [each for each in dict.fromkeys(readings) if each not in ("", reference) and "://" not in each]


def _unescaped(path: str) -> str:
    """Return a path without percent escapes; as it is if they are no text."""
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError:
        return path


def _path_of(url: str, *, decoded: bool = True) -> str:
    """Return the path of a file URL.

    Raises:
        EntryError: it has a host, or its path is not absolute.
    """
    rest = url.strip().partition(":")[2]
    host, slash, path = rest.removeprefix("//").partition("/")
    if not rest.startswith("//"):  # file:/data/a.jpg is another way to write it.
        host, path = "", rest.removeprefix("/")
    if not slash or host.lower() not in ("", "localhost"):
        expected = "a file URL must have an absolute path, such as file:///data/a.jpg"
        raise EntryError(f"{expected}; this one names the host {printable(host[:40])}")
    return f"/{unquote(path) if decoded else path}"


def _oddities(reference: str) -> Iterator[str]:
    """Yield what is unusual about a path, as a cause of not finding it."""
    if reference != reference.strip():
        yield "it is written with a blank at its " + ("end" if reference != reference.rstrip() else "beginning")
    if drive := re.match(r"\s*([A-Za-z]:)[\\/]", reference):
        yield f"it is a path of Windows (drive {drive[1]}); use a relative path"
    elif "\\" in reference:
        yield 'it is written with "\\", "/" was tried as well'
    if "%" in reference and _unescaped(reference) != reference:
        yield "it is written with percent escapes, plain text was tried as well"
    if reference.startswith("~"):
        yield '"~" is not expanded'
