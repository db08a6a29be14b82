"""Files that hold many records each: one of them, a folder of them, or a glob."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from cluster.records.base import EntryError, Skipped
from cluster.records.listing import version_of, walk
from cluster.records.location import Location
from cluster.records.names import is_hidden, printable
from cluster.records.reading import patiently, stream

WILDCARDS = "*?["


@dataclass(frozen=True, slots=True)
class Container:
    """A tar or a parquet file of an archive.

    Attributes:
        location: of the archive, which opens the file system.
        path: of this file, in that file system.
        name: relative to the archive, printable.
        size: bytes.
        version: changes with the content.
    """

    location: Location
    path: str
    name: str
    size: int
    version: str

    def open(self) -> io.BufferedReader:
        """The file as a seekable stream."""
        filesystem, _ = self.location.open()
        return stream(filesystem, self.path, self.size, self.name, self.version)

    @property
    def identity(self) -> list[str | int]:
        """What the fingerprint of a shard needs to know of it."""
        return [self.name, self.size, self.version]


def containers(
    location: Location, wanted: Callable[[str], bool], skipped: Skipped
) -> Iterator[Container | tuple[str, str]]:
    """The containers of an archive, sorted by name.

    Args:
        location: one container, a folder of them, or a glob.
        wanted: tells by the name what is one.
        skipped: counts everything else.

    Yields:
        A container, or name and reason for one that cannot be opened.
    """
    filesystem, path = location.open()
    if location.is_file():
        yield _described(location, path, PurePosixPath(path).name)
    elif is_pattern(location):
        root = path[: path.index(next(char for char in path if char in WILDCARDS))].rpartition("/")[0]
        for match in sorted(filesystem.glob(path)):
            name = match.removeprefix(root).lstrip("/")
            if wanted(name) and not is_hidden(name):
                yield _described(location, match, name)
            else:
                skipped.add(printable(name))
    else:
        for entry in walk(location, skipped):
            if not wanted(entry.path):
                skipped.add(entry.key)
            elif entry.problem is not None:
                yield entry.key, entry.problem
            else:
                full = f"{path.rstrip('/')}/{entry.path}"
                yield Container(location, full, entry.key, entry.size or 0, entry.version)


def is_pattern(location: Location) -> bool:
    """Whether a place is a glob: it has a wildcard, and nothing that is there is called so.

    Raises:
        StorageError: storage does not answer.
    """
    filesystem, path = location.open()
    return any(char in path for char in WILDCARDS) and not patiently(lambda: filesystem.exists(path), location.shown)


def _described(location: Location, path: str, name: str) -> Container | tuple[str, str]:
    filesystem, _ = location.open()
    try:
        info = patiently(lambda: filesystem.info(path), printable(name))
    except EntryError as error:
        return printable(name), str(error)
    if info["size"] is None:
        return printable(name), "its server does not tell its size"
    return Container(location, path, printable(name), int(info["size"]), version_of(info))
