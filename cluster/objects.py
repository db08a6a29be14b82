"""Whole objects, written atomically, on a local folder or on any file system that fsspec knows.

A reader sees an object complete or not at all. Locally that takes a temporary file beside the target and a rename;
remotely it takes exactly one PUT, because a file object that is closed by an exception commits what it has so far.
Nothing here retries: `cluster.store` does.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

TEMPORARY = ".tmp-"  # Prefix of what a killed writer may leave behind in a local folder.
_ONE_PUT = 1 << 40  # A chunk size that no object reaches: s3fs then sends one PUT instead of a multipart upload.

_open: dict[tuple[int, str, str], Any] = {}
_opening = threading.Lock()


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

    def delete(self, path: str) -> None:
        """Remove an object; FileNotFoundError if there is none."""
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

    def delete(self, path: str) -> None:
        """Remove the file."""
        (self._root / path).unlink()


class RemoteObjects:
    """Objects of an fsspec file system below a root."""

    def __init__(self, filesystem: Any, root: str, *, is_s3: bool) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self._one_put = {"chunksize": _ONE_PUT} if is_s3 else {}

    def write(self, path: str, data: bytes) -> None:
        """One PUT of the whole object."""
        self._filesystem.pipe_file(self._at(path), data, **self._one_put)

    def write_new(self, path: str, data: bytes) -> None:
        """One conditional PUT (If-None-Match: *)."""
        try:
            self._filesystem.pipe_file(self._at(path), data, mode="create", **self._one_put)
        except OSError as error:
            if _http_status(error) == 412:  # s3fs knows AWS's wording of this answer, not that of other servers.
                raise FileExistsError(path) from error
            raise

    def read(self, path: str) -> bytes:
        """One GET of the whole object."""
        return bytes(self._filesystem.cat_file(self._at(path)))

    def size(self, path: str) -> int:
        """One HEAD. Not fsspec's `exists`, which takes every error for "no"."""
        info = self._filesystem.info(self._at(path))
        if info["type"] != "file":
            raise FileNotFoundError(path)
        return int(info["size"])

    def list(self, folder: str) -> Iterator[str]:
        """Folder by folder. Not fsspec's `find`, which leaves out the folders that fail to list."""
        self._filesystem.invalidate_cache()
        folders = [self._at(folder).rstrip("/")]
        while folders:
            parent = folders.pop()
            with suppress(FileNotFoundError):
                for entry in self._filesystem.ls(parent, detail=True):
                    name = entry["name"].rstrip("/")
                    if entry["type"] == "directory" and name != parent:
                        folders.append(name)
                    elif entry["type"] == "file" and entry["name"] == name != parent:
                        yield name.removeprefix(self._root).lstrip("/")

    def delete(self, path: str) -> None:
        """Remove the object. Object stores do not say whether there was one."""
        self._filesystem.rm_file(self._at(path))

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"


def open_remote(url: str, options: Mapping[str, Any]) -> RemoteObjects:
    """Open a URL with a scheme. Each process has one file system for each host or bucket, whatever its threads do.

    A new S3 client takes a quarter of a second, and fsspec's own cache would make one for every thread.
    """
    from fsspec.core import get_filesystem_class, url_to_fs

    scheme, _, rest = url.partition("://")
    key = (os.getpid(), f"{scheme}://{rest.partition('/')[0]}", repr(sorted(options.items())))
    with _opening:
        if key not in _open:
            is_async = get_filesystem_class(scheme).async_impl
            fresh = {"use_listings_cache": False, "skip_instance_cache": True} if is_async else {}
            _open[key], _ = url_to_fs(url, **fresh, **options)
        filesystem = _open[key]
    return RemoteObjects(filesystem, filesystem._strip_protocol(url), is_s3=scheme in ("s3", "s3a"))


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


def _http_status(error: BaseException) -> int | None:
    response = getattr(error.__cause__, "response", None) or {}
    status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status
