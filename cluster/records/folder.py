"""Folders of images at any depth: every file is a record whose key is its path below the folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from fsspec import AbstractFileSystem

from cluster.errors import ChangedError
from cluster.fingerprint import fingerprint
from cluster.records.base import EntryError, Lister, ReadOptions, Record, Shard, Skipped
from cluster.records.chunking import chunk
from cluster.records.containers import Archive
from cluster.records.listing import Entry
from cluster.records.location import Location
from cluster.records.reading import (
    CHANGED,
    etag_of,
    ordered_map,
    read_listed,
    read_remote,
    request_ahead,
    too_large,
    with_retries,
)
from cluster.storage.filesystems import fetch


def open_folder(archive: Archive) -> Lister:
    """Open a folder as an archive: every file is an entry, unless its name marks it as hidden or as a sidecar."""
    return partial(_shards, archive)


def _shards(archive: Archive, skipped: Skipped) -> Iterator[Shard]:
    yield from slice_folder(archive.location, archive.files(skipped), archive.options)


def slice_folder(location: Location, entries: Iterable[Entry], options: ReadOptions) -> Iterator[Shard]:
    """Cut listed images of a folder into shards."""
    max_bytes = options.max_bytes
    images = (_limited(entry, max_bytes) for entry in entries)
    for group in chunk(images, key=lambda entry: entry.path, target=options.shard_records):
        contents = [[entry.key, entry.size, entry.version, entry.problem] for entry in group]
        yield Shard(fingerprint(contents), len(group), FolderSlice(location, tuple(group), max_bytes))


def _limited(entry: Entry, max_bytes: int) -> Entry:
    if entry.size is not None and entry.size > max_bytes:
        return replace(entry, problem=too_large(entry.size, max_bytes))
    return entry


@dataclass(frozen=True, slots=True)
class FolderSlice:
    """Some files of a folder, with random access."""

    location: Location
    entries: tuple[Entry, ...] = field(repr=False)
    max_bytes: int

    def read(self, *, threads: int, skipped: Skipped) -> Iterator[Record]:
        """See `read_shard`."""
        del skipped
        filesystem, root = self.location.open()
        record = partial(self._record, filesystem, root.rstrip("/"))
        if self.location.is_local:
            yield from ordered_map(record, self.entries, threads)
        else:
            yield from request_ahead(record, self.entries, filesystem, size_of=lambda entry: entry.size)

    def select(self, rows: Sequence[int]) -> FolderSlice:
        """See `RandomAccess.select`."""
        return replace(self, entries=tuple(self.entries[row] for row in rows))

    def _record(self, filesystem: AbstractFileSystem, root: str, entry: Entry) -> Record:
        if entry.problem is not None:
            return Record(entry.key, None, entry.problem, "")
        try:
            data = with_retries(lambda: self._data(filesystem, root, entry), entry.key)
        except EntryError as error:
            return Record(entry.key, None, str(error), "")
        except ChangedError:  # A change to one file is no reason to give up the files beside it.
            return Record(entry.key, None, CHANGED, "")
        return Record(entry.key, data, None, "")

    def _data(self, filesystem: AbstractFileSystem, root: str, entry: Entry) -> bytes:
        """Read what was listed, as the shard is named after it; of local files, only the size is compared."""
        path = f"{root}/{entry.path}"
        if self.location.is_local:
            data = read_listed(root or "/", entry.path, entry.link, self.max_bytes)
            if len(data) != entry.size:
                raise ChangedError
            return data
        if entry.size is None:
            return read_remote(filesystem, path, self.max_bytes)
        return fetch(filesystem, path, tag=etag_of(entry.version), size=entry.size)
