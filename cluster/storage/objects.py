"""Whole objects, written atomically, on a local folder or on any file system that fsspec knows.

A reader sees an object complete or not at all. Locally that takes a temporary file beside the target and a rename;
remotely it takes one write of all bytes, because a file object that is closed by an exception commits what it has so
far. S3 has a module of its own, `cluster.storage.s3`. Nothing here retries: `cluster.storage.store` does.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOTDIR
from pathlib import Path
from stat import S_ISDIR
from typing import Any, Protocol
from uuid import uuid4

from cluster.storage.filesystems import is_s3, open_filesystem
from cluster.storage.retry import Retry
from cluster.storage.s3 import S3Objects
from cluster.storage.settings import Storage

TEMPORARY = ".tmp-"  # Prefix of what a killed writer may leave behind in a local folder.
_STAGED = re.compile(re.escape(TEMPORARY) + "[0-9a-f]{32}")


class Objects(Protocol):
    """What `Store` needs from a place that keeps objects. Paths are relative to the root and already checked."""

    def write(self, path: str, data: bytes) -> None:
        """Create or replace an object as a whole."""
        ...

    def write_new(self, path: str, data: bytes) -> None:
        """Create an object as a whole; FileExistsError if there is one, which then stays as it was."""
        ...

    def read(self, path: str) -> bytes:
        """The content of an object; FileNotFoundError if there is none."""
        ...

    def size(self, path: str) -> int:
        """The length of an object in bytes; FileNotFoundError if there is none."""
        ...

    def list(self, folder: str) -> Iterator[str]:
        """Paths of all objects below a folder ("" is the root), in no particular order."""
        ...

    def folders(self, folder: str) -> Iterator[str]:
        """Paths of the folders in a folder ("" is the root), not below it, in no particular order."""
        ...

    def delete(self, path: str) -> None:
        """Remove an object; FileNotFoundError if there is none."""
        ...

    def check_access(self) -> None:
        """Ask for something cheap; an error says that nothing can be had here."""
        ...

    def remove_stale_files(self, folder: str, older_than_s: float) -> int:
        """Remove what killed writers left in a folder, not below it, so long ago; returns how many."""
        ...


class LocalObjects:
    """Objects as files below a folder."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def write(self, path: str, data: bytes) -> None:
        """Write beside the target, flush to the disk, then rename over it."""
        target = self._root / path
        with _staged(target, data) as temporary:
            temporary.replace(target)
        _flush_folder(target.parent)

    def write_new(self, path: str, data: bytes) -> None:
        """Like `write`, with a hard link for the rename: it fails if the name is taken, a rename would not."""
        target = self._root / path
        with _staged(target, data) as temporary:
            os.link(temporary, target)
        _flush_folder(target.parent)

    def read(self, path: str) -> bytes:
        """The content of the file."""
        return (self._root / path).read_bytes()

    def size(self, path: str) -> int:
        """The length of the file in bytes."""
        target = self._root / path
        if target.is_dir():
            raise FileNotFoundError(target)
        return target.stat().st_size

    def list(self, folder: str) -> Iterator[str]:
        """All files at any depth, without temporary ones; nothing if the folder does not exist."""
        for parent, _, names in os.walk(self._root / folder, onerror=_raise_unless_missing):
            for name in names:
                if not name.startswith(TEMPORARY):
                    yield (Path(parent) / name).relative_to(self._root).as_posix()

    def folders(self, folder: str) -> Iterator[str]:
        """The folders in a folder, also empty ones; nothing if it does not exist."""
        with suppress(FileNotFoundError), os.scandir(self._root / folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield Path(entry).relative_to(self._root).as_posix()

    def delete(self, path: str) -> None:
        """Remove the file."""
        (self._root / path).unlink()

    def check_access(self) -> None:
        """Look the folder up, which need not exist."""
        with suppress(FileNotFoundError):
            if not S_ISDIR(self._root.stat().st_mode):
                raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(self._root))

    def remove_stale_files(self, folder: str, older_than_s: float) -> int:
        """Remove temporary files that nobody has written to for so long. What cannot be looked at or removed stays."""
        before, swept = time.time() - older_than_s, 0
        with suppress(OSError), os.scandir(self._root / folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    if _STAGED.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_mtime < before:
                        Path(entry).unlink()
                        swept += 1
        return swept


class RemoteObjects:
    """Objects of an fsspec file system below a root."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")

    def write(self, path: str, data: bytes) -> None:
        """One write of the whole object."""
        self._filesystem.pipe_file(self._at(path), data)

    def write_new(self, path: str, data: bytes) -> None:
        """One write that fails where there is something."""
        self._filesystem.pipe_file(self._at(path), data, mode="create")

    def read(self, path: str) -> bytes:
        """All of the object."""
        return bytes(self._filesystem.cat_file(self._at(path)))

    def size(self, path: str) -> int:
        """Not fsspec's `exists`, which takes every error for "no"."""
        info = self._filesystem.info(self._at(path))
        if info["type"] != "file":
            raise FileNotFoundError(path)
        return int(info["size"])

    def list(self, folder: str) -> Iterator[str]:
        """Folder by folder. Not fsspec's `find`, which leaves out the folders that fail to list."""
        self._filesystem.invalidate_cache()
        folders = [self._at(folder).rstrip("/")]
        while folders:
            for kind, path in self._entries(folders.pop()):
                if kind == "directory":
                    folders.append(path)
                elif kind == "file":
                    yield path.removeprefix(self._root).lstrip("/")

    def folders(self, folder: str) -> Iterator[str]:
        """One listing."""
        self._filesystem.invalidate_cache()
        for kind, path in self._entries(self._at(folder).rstrip("/")):
            if kind == "directory":
                yield path.removeprefix(self._root).lstrip("/")

    def delete(self, path: str) -> None:
        """Remove the object. Object stores do not say whether there was one."""
        self._filesystem.rm_file(self._at(path))

    def check_access(self) -> None:
        """Look the root up, which need not exist."""
        with suppress(FileNotFoundError):
            self._filesystem.info(self._root or "/")

    def remove_stale_files(self, folder: str, older_than_s: float) -> int:
        """Nothing: an object is written at once."""
        del folder, older_than_s
        return 0

    def _entries(self, folder: str) -> Iterator[tuple[str, str]]:
        """What lies in a folder, which need not exist: whether it is a "file" or a "directory", and its path."""
        with suppress(FileNotFoundError):
            for entry in self._filesystem.ls(folder, detail=True):
                path = entry["name"].rstrip("/")
                if path != folder and (entry["type"] == "directory" or entry["name"] == path):
                    yield entry["type"], path

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"


def open_objects(root: str, storage: Storage, retry: Retry) -> Objects:
    """Open a place.

    Args:
        root: a URL with a scheme, or an absolute local path.
        storage: how S3 is reached.
        retry: of the requests that one operation consists of, where there are many.
    """
    if "://" not in root:
        return LocalObjects(root)
    filesystem, path = open_filesystem(root, storage)
    return S3Objects(filesystem, path, retry) if is_s3(filesystem) else RemoteObjects(filesystem, path)


@contextmanager
def _staged(target: Path, data: bytes) -> Iterator[Path]:
    """A complete temporary file beside the target, gone afterwards unless it was renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{TEMPORARY}{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
