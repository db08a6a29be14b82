"""List the files below a folder in the order of whole paths, one folder or one page of names at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from fsspec import AbstractFileSystem

from cluster.records.base import EntryError, Skipped
from cluster.records.local_files import Link, is_within
from cluster.records.location import Location
from cluster.records.names import is_hidden, printable
from cluster.records.reading import with_retries
from cluster.storage.filesystems import is_s3
from cluster.storage.s3 import checked_listing, list_pages

_FOLLOW = "set archive.follow_links = true to follow it"
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "created")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder in a listing.

    Attributes:
        path: relative to the listed folder, with "/"; may contain anything that the storage allows in a name.
        size: bytes; None if the listing does not give it.
        version: changes with the content: an ETag, or the modification time.
        problem: why it cannot be read; None if nothing is known against it.
        is_folder: whether it is a folder; in a finished listing, one that was not entered.
        link: where the symbolic links on the path of a local file lead, see `Link`; they have not changed since.
        leads_out: whether it is a link to a file or folder out of the archive that was not followed.
    """

    path: str
    size: int | None = None
    version: str = ""
    problem: str | None = None
    is_folder: bool = False
    link: Link = "none"
    leads_out: bool = False

    @property
    def key(self) -> str:
        """The printable path."""
        return printable(self.path)

    @property
    def order(self) -> bytes:
        """Sort key: the bytes of the whole path, with its separators, as object stores sort keys."""
        return (self.path + "/" * self.is_folder).encode("utf-8", "surrogatepass")


def walk(location: Location, skipped: Skipped, *, follow_links: bool = False) -> Iterator[Entry]:
    """Yield all files below a place, sorted by path, without hidden ones.

    Args:
        location: a folder, or the common prefix of some objects.
        skipped: counts hidden files and folders.
        follow_links: see `_LocalFolders`.

    Raises:
        EntryError: the place itself cannot be listed.
        StorageError: storage does not answer.
    """
    if location.is_local:
        folders = _LocalFolders(location.uri, follow_links=follow_links)
        return map(folders.describe, _depth_first(folders.children, skipped))
    filesystem, path = location.open()
    if is_s3(filesystem):
        return _s3_objects(filesystem, path, skipped)
    return _depth_first(lambda folder: _remote_children(filesystem, path, folder.path), skipped)


def version_of(info: dict[str, Any]) -> str:
    """Return what changes with the content of an object, from a file system's description of it; "" if nothing does."""
    return next((str(info[name]) for name in _VERSIONS if info.get(name)), "")


def _depth_first(children: Callable[[Entry], list[Entry]], skipped: Skipped) -> Iterator[Entry]:
    """Yield the entries below a folder, keeping in memory only the rest of each folder on the current path."""
    waiting = sorted(children(Entry("", is_folder=True)), key=lambda entry: entry.order, reverse=True)
    while waiting:
        entry = waiting.pop()
        if is_hidden(entry.path):
            skipped.add(entry.key + "/" * entry.is_folder)
        elif entry.is_folder:
            try:
                below = children(entry)
            except EntryError as error:
                yield Entry(entry.path, problem=f"a folder that cannot be listed: {error}", is_folder=True)
            else:
                waiting += sorted(below, key=lambda entry: entry.order, reverse=True)
        else:
            yield entry


class _LocalFolders:
    """The folders and files below a local folder.

    Symbolic links to regular files inside are followed. Other links are entries with a problem, unless `follow_links`:
    then links to regular files anywhere are followed, and linked folders are entered, each folder once. So nothing is
    listed twice and no loop is entered.

    Args:
        root: the folder.
        follow_links: whether links out of it are followed.
    """

    def __init__(self, root: str, *, follow_links: bool) -> None:
        self._root = os.path.realpath(root)
        self._follow_links = follow_links
        self._entered: set[tuple[int, int]] = set()

    def children(self, folder: Entry) -> list[Entry]:
        """List a folder. Files are not looked at yet.

        Raises:
            EntryError: it cannot be listed, or is listed elsewhere.
        """
        return with_retries(lambda: self._scan(folder), folder.key or self._root)

    def describe(self, entry: Entry) -> Entry:
        """Return a file with its size and version, looked up only when the listing reaches it."""
        if entry.problem is not None:
            return entry
        try:
            return with_retries(lambda: self._described(entry), entry.key)
        except EntryError as error:
            return Entry(entry.path, problem=str(error))

    def _scan(self, folder: Entry) -> list[Entry]:
        place = f"{self._root}/{folder.path}"
        if self._follow_links:
            self._enter(place, folder)
        prefix = f"{folder.path}/" if folder.path else ""
        with os.scandir(place) as items:
            return [self._child(item, prefix + item.name, folder.link) for item in items]

    def _child(self, item: os.DirEntry[str], path: str, link: Link) -> Entry:
        if self._follow_links and item.is_symlink():
            is_folder = os.path.isdir(f"{self._root}/{path}")  # noqa: PTH112 (a path may hold any bytes)
            return Entry(path, is_folder=is_folder, link="out")
        return Entry(path, is_folder=item.is_dir(follow_symlinks=False), link=link)

    def _enter(self, place: str, folder: Entry) -> None:
        """Remember a folder, unless its images are listed under another path."""
        status = os.stat(place)  # noqa: PTH116
        identity = (status.st_dev, status.st_ino)
        if folder.link == "out":
            target = os.path.realpath(place)
            if identity in self._entered or is_within(target, self._root) or is_within(self._root, target):
                raise EntryError("a symbolic link to a folder that the archive lists under another path")
        self._entered.add(identity)

    def _described(self, entry: Entry) -> Entry:
        status = os.lstat(f"{self._root}/{entry.path}")
        if stat.S_ISLNK(status.st_mode):
            return self._linked(entry.path)
        return _regular(entry.path, status, str(status.st_mtime_ns), entry.link)

    def _linked(self, path: str) -> Entry:
        """Return the entry of a symbolic link. Its version changes with the link and with what it leads to."""
        place = f"{self._root}/{path}"
        try:
            target = os.path.realpath(place, strict=True)
            status = os.stat(target)  # noqa: PTH116
        except PermissionError:
            return Entry(path, problem="a symbolic link: permission denied")
        except OSError:
            return Entry(path, problem="a broken symbolic link")
        is_inside, is_folder = is_within(target, self._root), stat.S_ISDIR(status.st_mode)
        if not (is_inside or self._follow_links):
            return _unfollowed(path, status)
        if is_folder:
            return Entry(path, problem="a symbolic link to a folder", is_folder=True)
        version = f"{status.st_mtime_ns} {os.readlink(place)}"  # noqa: PTH115
        return _regular(path, status, version, "inside" if is_inside else "out")


def _regular(path: str, status: os.stat_result, version: str, link: Link) -> Entry:
    problem = None if stat.S_ISREG(status.st_mode) else "not a regular file"
    return Entry(path, status.st_size, version, problem, link=link)


def _unfollowed(path: str, status: os.stat_result) -> Entry:
    """Return the entry of a link out of the archive to something with this status."""
    is_folder, is_file = stat.S_ISDIR(status.st_mode), stat.S_ISREG(status.st_mode)
    problem = "a symbolic link to a folder out of the archive" if is_folder else "a symbolic link out of the archive"
    advice = f"; {_FOLLOW}" if is_folder or is_file else ""
    return Entry(path, problem=problem + advice, is_folder=is_folder, leads_out=is_folder or is_file)


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
        return with_retries(lambda: checked_listing(request()), f"the listing of {bucket}")

    for item in list_pages(request_page):
        entry = Entry(item["Key"].removeprefix(prefix), item["Size"], item["ETag"])
        if entry.path.endswith("/") or not entry.path:  # a placeholder that some tools write for a folder
            continue
        if is_hidden(entry.path):
            skipped.add(entry.key)
        else:
            yield entry
