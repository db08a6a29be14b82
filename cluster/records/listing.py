"""List the files below a folder in the order of whole paths, one folder or one page of names at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem

from cluster.records.base import EntryError, Skipped
from cluster.records.location import Location
from cluster.records.names import is_hidden, printable
from cluster.records.reading import with_retries
from cluster.storage.filesystems import is_s3
from cluster.storage.s3 import list_pages

_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "created")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder in a listing.

    Attributes:
        path: relative to the listed folder, with "/"; may contain anything that the storage allows in a name.
        size: bytes; None if the listing does not give it.
        version: changes with the content: an ETag, or the modification time.
        problem: why it cannot be read; None if nothing is known against it.
        is_folder: only while listing.
    """

    path: str
    size: int | None = None
    version: str = ""
    problem: str | None = None
    is_folder: bool = False

    @property
    def key(self) -> str:
        """The printable path."""
        return printable(self.path)

    @property
    def order(self) -> bytes:
        """Sort key: the bytes of the whole path, with its separators, as object stores sort keys."""
        return (self.path + "/" * self.is_folder).encode("utf-8", "surrogatepass")


def walk(location: Location, skipped: Skipped) -> Iterator[Entry]:
    """Yield all files below a place, sorted by path, without hidden ones.

    A symbolic link is followed to a regular file inside the place and has a problem otherwise. No folder is entered
    through a link, so nothing is listed twice and no loop is entered.

    Args:
        location: a folder, or the common prefix of some objects.
        skipped: counts hidden files and folders.

    Raises:
        EntryError: the place itself cannot be listed.
        StorageError: storage does not answer.
    """
    if location.is_local:
        root = os.path.realpath(location.uri)
        names = _depth_first(lambda folder: _local_children(root, folder), skipped)
        return (entry if entry.problem else _described(root, entry.path) for entry in names)
    filesystem, path = location.open()
    if is_s3(filesystem):
        return _s3_objects(filesystem, path, skipped)
    return _depth_first(lambda folder: _remote_children(filesystem, path, folder), skipped)


def version_of(info: dict[str, Any]) -> str:
    """Return what changes with the content of an object, from a file system's description of it; "" if nothing does."""
    return next((str(info[name]) for name in _VERSIONS if info.get(name)), "")


def _depth_first(children: Callable[[str], list[Entry]], skipped: Skipped) -> Iterator[Entry]:
    """Yield the entries below a folder, keeping in memory only the rest of each folder on the current path."""
    waiting = sorted(children(""), key=lambda entry: entry.order, reverse=True)
    while waiting:
        entry = waiting.pop()
        if is_hidden(entry.path):
            skipped.add(entry.key + "/" * entry.is_folder)
        elif entry.is_folder:
            try:
                below = children(entry.path)
            except EntryError as error:
                yield Entry(entry.path, problem=f"a folder that cannot be listed: {error}")
            else:
                waiting += sorted(below, key=lambda entry: entry.order, reverse=True)
        else:
            yield entry


def _local_children(root: str, folder: str) -> list[Entry]:
    return with_retries(lambda: _scan(root, folder), printable(folder) or root)


def _scan(root: str, folder: str) -> list[Entry]:
    with os.scandir(f"{root}/{folder}") as items:
        prefix = f"{folder}/" if folder else ""
        return [Entry(prefix + item.name, is_folder=item.is_dir(follow_symlinks=False)) for item in items]


def _described(root: str, path: str) -> Entry:
    """Return a local file with its size and version, looked up only when the listing reaches it."""
    try:
        status = with_retries(lambda: os.lstat(f"{root}/{path}"), printable(path))
        if stat.S_ISLNK(status.st_mode):
            status = _target(root, path)
    except EntryError as error:
        return Entry(path, problem=str(error))
    problem = None if stat.S_ISREG(status.st_mode) else "not a regular file"
    return Entry(path, status.st_size, str(status.st_mtime_ns), problem)


def _target(root: str, path: str) -> os.stat_result:
    """Return the status of the file that a symbolic link leads to.

    Raises:
        EntryError: it is not followed.
    """
    try:
        target = Path(root, path).resolve(strict=True)
        status = target.stat()
    except (OSError, RuntimeError):  # RuntimeError: a link to itself
        raise EntryError("a broken symbolic link") from None
    if not target.is_relative_to(root):
        raise EntryError("a symbolic link out of the archive")
    if stat.S_ISDIR(status.st_mode):
        raise EntryError("a symbolic link to a folder")
    return status


def _remote_children(filesystem: AbstractFileSystem, root: str, folder: str) -> list[Entry]:
    path = f"{root.rstrip('/')}/{folder}".rstrip("/") or root
    infos = with_retries(lambda: filesystem.ls(path, detail=True), printable(folder) or "the archive's root")
    names = [(info["name"].rstrip("/").removeprefix(root).lstrip("/"), info) for info in infos]
    return [
        Entry(name, info.get("size"), version_of(info), is_folder=info["type"] == "directory")
        for name, info in names
        if name not in ("", folder)
    ]


def _s3_objects(filesystem: AbstractFileSystem, path: str, skipped: Skipped) -> Iterator[Entry]:
    """Yield the objects of one flat listing: S3 returns it sorted, and it takes no request for each folder."""
    bucket, _, folder = path.partition("/")
    prefix = f"{folder}/" if folder else ""

    def request_page(**more: str) -> dict[str, Any]:
        request = partial(filesystem.call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
        return dict(with_retries(request, f"the listing of {bucket}"))

    for item in list_pages(request_page):
        entry = Entry(item["Key"].removeprefix(prefix), item["Size"], item["ETag"])
        if entry.path.endswith("/") or not entry.path:  # a placeholder that some tools write for a folder
            continue
        if is_hidden(entry.path):
            skipped.add(entry.key)
        else:
            yield entry
