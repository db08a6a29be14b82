"""Whole objects, written atomically, on a local folder or on any file system of fsspec.

A reader sees a complete object or none. Locally that takes a temporary file beside the target and a rename; remotely
it takes one write of all bytes, because a file object that is closed by an exception commits what it has so far. S3 has
a module of its own, `cluster.storage.s3`. Nothing here retries: `cluster.storage.store` does.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from mmap import mmap
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, Protocol
from uuid import uuid4

from cluster.errors import SourceError
from cluster.storage.filesystems import is_s3, open_filesystem
from cluster.storage.retry import Retry
from cluster.storage.s3 import S3Objects
from cluster.storage.settings import Storage

TEMPORARY = ".tmp-"
"""Prefix of the temporary files that a killed writer may leave in a local folder."""
MIN_FREE_BYTES = 1 << 20
"""A disk with less is full."""
_UNSUPPORTED_SYNC = frozenset(
    {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM}
)
"""Network and FUSE file systems refuse to flush a folder, or to open it for that."""
_TEMPORARY_NAME = re.compile(re.escape(TEMPORARY) + "[0-9a-f]{32}")


class Objects(Protocol):
    """The storage operations behind `Store`. Paths are relative to the root and already checked."""

    def write(self, path: str, data: bytes | mmap) -> None:
        """Create or replace an object as a whole; `data` may be a file that is mapped into memory."""
        ...

    def write_new(self, path: str, data: bytes) -> None:
        """Create an object as a whole; FileExistsError if it exists, and it stays as it was."""
        ...

    def read(self, path: str) -> bytes:
        """Return the content of an object; FileNotFoundError if it does not exist."""
        ...

    def size(self, path: str) -> int:
        """Return the length of an object in bytes; FileNotFoundError if it does not exist."""
        ...

    def age_s(self, path: str) -> float | None:
        """Return the seconds since an object was written, by the storage's clock where it has one; None if unknown."""
        ...

    def list(self, folder: str) -> Iterator[str]:
        """Yield the paths of all objects below a folder ("" is the root), in no particular order."""
        ...

    def sizes(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield what `list` yields, each with its length in bytes, by the same requests."""
        ...

    def folders(self, folder: str) -> Iterator[str]:
        """Yield the paths of the folders directly in a folder ("" is the root), in no particular order."""
        ...

    def delete(self, path: str) -> None:
        """Remove an object; FileNotFoundError if it does not exist."""
        ...

    def check_access(self) -> None:
        """Make one cheap request; its error shows that the store cannot be used."""
        ...

    def check_writable(self) -> None:
        """Raise OSError if nothing can be written, as far as that can be seen without writing."""
        ...

    def remove_stale_files(self, folder: str, older_than_s: float) -> int:
        """Remove temporary files directly in a folder that are older than that; return their number."""
        ...


class LocalObjects:
    """Objects as files below a folder."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def write(self, path: str, data: bytes | mmap) -> None:
        """Write a temporary file beside the target, flush it to the disk, then rename it over the target."""
        target = self._root / path
        with _temporary_file(target, data) as temporary:
            temporary.replace(target)
        _flush_folder(target.parent)

    def write_new(self, path: str, data: bytes) -> None:
        """Like `write`, with a hard link instead of the rename: a link fails if the name exists, a rename does not."""
        target = self._root / path
        with _temporary_file(target, data) as temporary:
            os.link(temporary, target)
        _flush_folder(target.parent)

    def read(self, path: str) -> bytes:
        """Return the content of the file. What is no file, such as a pipe that nobody writes to, is OSError at once."""
        with open(self._root / path, "rb", opener=_open_at_once) as file:
            if not S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _error(errno.EOPNOTSUPP, self._root / path)
            return file.read()

    def size(self, path: str) -> int:
        """Return the length of the file in bytes."""
        target = self._root / path
        if target.is_dir():
            raise FileNotFoundError(target)
        return target.stat().st_size

    def age_s(self, path: str) -> float | None:
        """Compare the time of the last change with this machine's clock."""
        return max(0.0, time.time() - (self._root / path).stat().st_mtime)

    def list(self, folder: str) -> Iterator[str]:
        """Yield all files at any depth, except temporary ones; none if the folder does not exist."""
        for parent, _, names in os.walk(self._root / folder, onerror=_raise_unless_missing):
            for name in names:
                if not name.startswith(TEMPORARY):
                    yield (Path(parent) / name).relative_to(self._root).as_posix()

    def sizes(self, folder: str) -> Iterator[tuple[str, int]]:
        """Look up the length of each file; one that is gone by then is left out."""
        for path in self.list(folder):
            with suppress(FileNotFoundError):
                yield path, (self._root / path).stat().st_size

    def folders(self, folder: str) -> Iterator[str]:
        """Yield the folders in a folder, empty ones included; none if it does not exist."""
        with suppress(FileNotFoundError), os.scandir(self._root / folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield Path(entry).relative_to(self._root).as_posix()

    def delete(self, path: str) -> None:
        """Remove the file."""
        (self._root / path).unlink()

    def check_access(self) -> None:
        """Look up the root, which may be missing but must not be a file."""
        with suppress(FileNotFoundError):
            if not S_ISDIR(self._root.stat().st_mode):
                raise _error(errno.ENOTDIR, self._root)

    def check_writable(self) -> None:
        """Check permissions and free space of the root, or of the folder that it would be made in."""
        folder = next(parent for parent in (self._root, *self._root.parents) if os.path.lexists(parent))
        if not folder.is_dir():
            raise _error(errno.ENOTDIR, folder)
        disk = os.statvfs(folder)
        if disk.f_flag & os.ST_RDONLY:
            raise _error(errno.EROFS, folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise _error(errno.EACCES, folder)
        if disk.f_blocks and disk.f_bavail * disk.f_frsize < MIN_FREE_BYTES:
            raise _error(errno.ENOSPC, folder)

    def remove_stale_files(self, folder: str, older_than_s: float) -> int:
        """Remove temporary files not modified for that long. Files that cannot be examined or removed stay."""
        before, removed = time.time() - older_than_s, 0
        with suppress(OSError), os.scandir(self._root / folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    if _TEMPORARY_NAME.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_mtime < before:
                        Path(entry).unlink()
                        removed += 1
        return removed


class RemoteObjects:
    """Objects of an fsspec file system below a root."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")

    def write(self, path: str, data: bytes | mmap) -> None:
        """Write the whole object in one request."""
        self._filesystem.pipe_file(self._full_path(path), data[:])

    def write_new(self, path: str, data: bytes) -> None:
        """Write the whole object in one request that fails if it exists."""
        self._filesystem.pipe_file(self._full_path(path), data, mode="create")

    def read(self, path: str) -> bytes:
        """Return the content of the object."""
        return bytes(self._filesystem.cat_file(self._full_path(path)))

    def size(self, path: str) -> int:
        """Look up the length. fsspec's `exists` is not used: it takes every error for "no"."""
        info = self._filesystem.info(self._full_path(path))
        if info["type"] != "file":
            raise FileNotFoundError(path)
        return int(info["size"])

    def age_s(self, path: str) -> float | None:
        """Compare the time that the file system reports, if it does, with this machine's clock."""
        info = self._filesystem.info(self._full_path(path))
        written = next((info[key] for key in ("mtime", "updated", "last_modified", "created") if info.get(key)), None)
        seconds = written.timestamp() if isinstance(written, datetime) else written
        return max(0.0, time.time() - seconds) if isinstance(seconds, int | float) else None

    def list(self, folder: str) -> Iterator[str]:
        """List folder by folder. fsspec's `find` is not used: it skips folders whose listing fails."""
        for path, _ in self._files(folder):
            yield path

    def sizes(self, folder: str) -> Iterator[tuple[str, int]]:
        """List folder by folder; where a listing has no lengths, each is looked up."""
        for path, size in self._files(folder):
            yield path, self.size(path) if size is None else int(size)

    def _files(self, folder: str) -> Iterator[tuple[str, Any]]:
        self._filesystem.invalidate_cache()
        folders = [self._full_path(folder).rstrip("/")]
        while folders:
            for kind, path, size in self._entries(folders.pop()):
                if kind == "directory":
                    folders.append(path)
                elif kind == "file":
                    yield path.removeprefix(self._root).lstrip("/"), size

    def folders(self, folder: str) -> Iterator[str]:
        """Yield the folders of one listing."""
        self._filesystem.invalidate_cache()
        for kind, path, _ in self._entries(self._full_path(folder).rstrip("/")):
            if kind == "directory":
                yield path.removeprefix(self._root).lstrip("/")

    def delete(self, path: str) -> None:
        """Remove the object. Object stores do not report whether it existed."""
        self._filesystem.rm_file(self._full_path(path))

    def check_access(self) -> None:
        """Look up the root, which may be missing."""
        with suppress(FileNotFoundError):
            self._filesystem.info(self._root or "/")

    def check_writable(self) -> None:
        """Do nothing: only writing shows it."""

    def remove_stale_files(self, folder: str, older_than_s: float) -> int:
        """Do nothing: a remote write leaves no temporary files."""
        del folder, older_than_s
        return 0

    def _entries(self, folder: str) -> Iterator[tuple[str, str, Any]]:
        """Yield ("file" or "directory", path, length or None) of each entry of a folder; none if it does not exist."""
        with suppress(FileNotFoundError):
            for entry in self._filesystem.ls(folder, detail=True):
                path = entry["name"].rstrip("/")
                if path != folder and (entry["type"] == "directory" or entry["name"] == path):
                    yield entry["type"], path, entry.get("size")

    def _full_path(self, path: str) -> str:
        return f"{self._root}/{path}"


def open_objects(root: str, storage: Storage, retry: Retry) -> Objects:
    """Open the objects below a root.

    Args:
        root: a URL with a scheme, or an absolute local path.
        storage: S3 connection.
        retry: for the single requests of an operation that makes several.
    """
    if "://" not in root:
        return LocalObjects(root)
    filesystem, path = open_filesystem(root, storage)
    return S3Objects(filesystem, path, retry) if is_s3(filesystem) else RemoteObjects(filesystem, path)


@contextmanager
def _temporary_file(target: Path, data: bytes | mmap) -> Iterator[Path]:
    """Write a complete temporary file beside the target; it is removed afterwards unless it was renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{TEMPORARY}{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            _flush(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Flush the folder, so that a new name in it survives a power cut; do without where that is not supported."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # A folder may be writable and not readable.
        return
    try:
        _flush(descriptor)
    finally:
        os.close(descriptor)


def _flush(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED_SYNC:
            raise


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for a writer, should it be a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _error(number: int, path: Path) -> OSError:
    """Return an error of the operating system."""
    return OSError(number, os.strerror(number), str(path))


def absolute_path(path: str) -> str:
    """Return a local path, absolute, with the home folder that "~" stands for.

    Raises:
        SourceError: there is no such home folder, or the text cannot be a path.
    """
    if "\0" in path:
        raise SourceError(f"expected a path, got {path!r} with a NUL character in it")
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError:
        user = path.partition("/")[0]
        raise SourceError(f"there is no home folder {user}; write ./{path} if this is a name") from None


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
