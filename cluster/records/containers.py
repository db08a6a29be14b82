"""Archives of container files, which hold many records each: one file, a folder of them, or a glob."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from cluster.fingerprint import fingerprint
from cluster.records.base import EntryError, ReadOptions, Shard, Skipped, Unreadable
from cluster.records.listing import Entry, version_of
from cluster.records.local_files import FILE_FLAGS, Link, open_listed
from cluster.records.location import Location
from cluster.records.names import is_hidden, printable
from cluster.records.reading import with_retries
from cluster.records.streams import Stream, open_local_stream, open_stream

WILDCARDS = "*?["


@dataclass(frozen=True, slots=True)
class Container:
    """A container file of an archive.

    Attributes:
        location: of the archive, which opens the file system.
        path: of this file, in that file system.
        name: relative to the archive, printable.
        size: bytes.
        version: changes with the content.
        link: which symbolic links are followed to a local file; "out" if its path was given, not listed.
    """

    location: Location
    path: str
    name: str
    size: int
    version: str
    link: Link = "out"

    @classmethod
    def from_entry(cls, location: Location, entry: Entry) -> Container:
        """Return the container that a listing of a folder found."""
        _, root = location.open()
        path = f"{root.rstrip('/')}/{entry.path}"
        return cls(location, path, entry.key, entry.size or 0, entry.version, entry.link)

    def open(self) -> Stream:
        """Open the file as a seekable stream."""
        filesystem, root = self.location.open()
        if not self.location.is_local:
            return open_stream(filesystem, self.path, self.size, self.name, self.version)
        if self.link == "out":
            return open_local_stream(partial(os.open, self.path, FILE_FLAGS), self.size, self.name)
        path = self.path.removeprefix(root).lstrip("/")
        return open_local_stream(partial(open_listed, root, path, self.link), self.size, self.name)

    @property
    def identity(self) -> list[str | int]:
        """What the fingerprint of a shard covers of it."""
        return [self.name, self.size, self.version]


Splitter = Callable[[Container, Skipped], Iterator[Shard]]
"""Cuts one container into shards and counts the members that it skips."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that a form opens.

    Attributes:
        location: a folder, a file, or a glob.
        suffixes: of the container files in it, in lower case; none where every file is an entry itself.
        options: how it is cut and read.
        files: lists the files of a folder that belong to the archive, and counts the others as skipped.
    """

    location: Location
    suffixes: tuple[str, ...]
    options: ReadOptions
    files: Callable[[Skipped], Iterator[Entry]]

    def containers(self, skipped: Skipped) -> Iterator[Container | Unreadable]:
        """Yield the containers, sorted by name.

        Args:
            skipped: counts every other file.

        Yields:
            A container, or the reason why one cannot be opened.
        """
        if self.location.is_file():
            _, path = self.location.open()
            yield _described(self.location, path, PurePosixPath(path).name)
        elif is_pattern(self.location):
            yield from self._matches(skipped)
        else:
            yield from self._files(skipped)

    def shards(self, split: Splitter, skipped: Skipped) -> Iterator[Shard]:
        """Yield the shards of all containers; one that cannot be opened is a shard with one error record."""
        for found in self.containers(skipped):
            if isinstance(found, Container):
                yield from split(found, skipped)
            else:
                yield unreadable_shard(found.key, found.reason)

    def _matches(self, skipped: Skipped) -> Iterator[Container | Unreadable]:
        filesystem, path = self.location.open()
        root = path[: path.index(next(char for char in path if char in WILDCARDS))].rpartition("/")[0]
        for match in sorted(with_retries(lambda: filesystem.glob(path), self.location.redacted)):
            name = match.removeprefix(root).lstrip("/")
            if self._holds(name) and not is_hidden(name):
                yield _described(self.location, match, name)
            else:
                skipped.add(printable(name))

    def _files(self, skipped: Skipped) -> Iterator[Container | Unreadable]:
        for entry in self.files(skipped):
            if entry.problem is not None:
                yield Unreadable(entry.key, entry.problem, entry.key)
            else:
                yield Container.from_entry(self.location, entry)

    def _holds(self, name: str) -> bool:
        return name.lower().endswith(self.suffixes)


def container_at(location: Location) -> Container:
    """Return the container at a place.

    Raises:
        EntryError: it cannot be opened.
        StorageError: storage does not answer.
    """
    _, path = location.open()
    found = _described(location, path, PurePosixPath(path).name)
    if isinstance(found, Container):
        return found
    raise EntryError(found.reason)


def has_wildcards(path: str) -> bool:
    """Whether a path may be a glob."""
    return any(char in path for char in WILDCARDS)


def is_pattern(location: Location) -> bool:
    """Whether a place is a glob: it has a wildcard, and nothing of exactly this name exists.

    Raises:
        StorageError: storage does not answer.
    """
    filesystem, path = location.open()
    return has_wildcards(path) and not with_retries(lambda: filesystem.exists(path), location.redacted)


def unreadable_shard(name: str, reason: str) -> Shard:
    """Return a shard with one error record, for a container that cannot be read."""
    return Shard(fingerprint([name, reason]), 1, Unreadable(name, reason, name))


def _described(location: Location, path: str, name: str) -> Container | Unreadable:
    filesystem, _ = location.open()
    name = printable(name)
    try:
        info = with_retries(lambda: filesystem.info(path), name)
    except EntryError as error:
        return Unreadable(name, str(error), name)
    if info["size"] is None:
        return Unreadable(name, "its server does not report its size", name)
    return Container(location, path, name, int(info["size"]), version_of(info))
