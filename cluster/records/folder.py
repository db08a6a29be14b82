"""A folder of images at any depth: every file is a record, its key the path below the folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from fsspec import AbstractFileSystem

from cluster.errors import ChangedError
from cluster.fingerprint import fingerprint
from cluster.records.base import EntryError, Lister, ReadOptions, Record, Shard, Skipped
from cluster.records.chunking import cut
from cluster.records.containers import Archive
from cluster.records.listing import Entry, walk
from cluster.records.location import Location
from cluster.records.names import is_sidecar
from cluster.records.reading import CHANGED, etag_of, ordered_map, patiently, read_local, read_remote, too_large
from cluster.storage.filesystems import fetch


def open_folder(archive: Archive) -> Lister:
    """Open a folder as an archive: every file is an entry, unless its name marks it as hidden or as a sidecar."""
    return partial(_shards, archive.location, archive.options)


def _shards(location: Location, options: ReadOptions, skipped: Skipped) -> Iterator[Shard]:
    images = _images(location, options.max_bytes, skipped)
    for group in cut(images, key=lambda entry: entry.path, target=options.shard_records):
        contents = [[entry.key, entry.size, entry.version, entry.problem] for entry in group]
        yield Shard(fingerprint(contents), len(group), FolderSlice(location, tuple(group), options.max_bytes))


def _images(location: Location, max_bytes: int, skipped: Skipped) -> Iterator[Entry]:
    for entry in walk(location, skipped):
        if is_sidecar(entry.path):
            skipped.add(entry.key)
        elif entry.size is not None and entry.size > max_bytes:
            yield Entry(entry.path, entry.size, entry.version, too_large(entry.size, max_bytes))
        else:
            yield entry


@dataclass(frozen=True, slots=True)
class FolderSlice:
    """Some files of a folder."""

    location: Location
    entries: tuple[Entry, ...] = field(repr=False)
    max_bytes: int

    def read(self, *, threads: int, skipped: Skipped) -> Iterator[Record]:
        """See `read_shard`."""
        del skipped
        filesystem, root = self.location.open()
        yield from ordered_map(partial(self._record, filesystem, root.rstrip("/")), self.entries, threads)

    def _record(self, filesystem: AbstractFileSystem, root: str, entry: Entry) -> Record:
        if entry.problem is not None:
            return Record(entry.key, None, entry.problem, "")
        try:
            data = patiently(lambda: self._data(filesystem, f"{root}/{entry.path}", entry), entry.key)
        except EntryError as error:
            return Record(entry.key, None, str(error), "")
        except ChangedError:  # Somebody at work in the folder is no reason to give up all that lies beside.
            return Record(entry.key, None, CHANGED, "")
        return Record(entry.key, data, None, "")

    def _data(self, filesystem: AbstractFileSystem, path: str, entry: Entry) -> bytes:
        """What was listed and nothing else: the shard's name stands for it. Of local files, the size has to do."""
        if entry.size is None:
            return read_remote(filesystem, path, self.max_bytes)
        if not self.location.is_local:
            return fetch(filesystem, path, tag=etag_of(entry.version))
        data = read_local(path, self.max_bytes)
        if len(data) != entry.size:
            raise ChangedError
        return data
