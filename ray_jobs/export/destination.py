"""Where an export is written: a local file or folder, or objects below a URL. It is there as a whole, or not at all.

Locally, everything is written beside PATH under a temporary name, which is renamed at the end. Object stores cannot
rename: there, files that describe the others come last, the very last of them `export.json`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import uuid4

from cluster import ClusterError, Storage, Store
from cluster.storage.objects import TEMPORARY
from ray_jobs.errors import JobError
from ray_jobs.output.layout import open_parent

MANIFEST = "export.json"
"""Written last into every exported folder: what it has, and of which run."""
_REPLACE = "add --overwrite to replace it"


class Destination(Protocol):
    """Takes the files of an export. Paths are relative; "" is the export itself, where that is one file."""

    @property
    def place(self) -> str:
        """Where it is in the end: URL, or absolute path."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """Write a file."""
        ...

    def open(self, path: str = "") -> BinaryIO:
        """Open a file to be written; it must be closed before the export ends."""
        ...


@dataclass(frozen=True)
class _Local:
    """Files in a temporary place on the same disk."""

    place: str
    staged: Path

    def put(self, path: str, data: bytes) -> None:
        with self.open(path) as file:
            file.write(data)

    def open(self, path: str = "") -> BinaryIO:
        target = self.staged / path if path else self.staged
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.open("wb")


@dataclass(frozen=True)
class _Remote:
    """Objects: those that are put at once, and those that are written to files first, to be sent at the end."""

    place: str
    store: Store
    prefix: str
    staged: Path
    written: list[str] = field(default_factory=list)

    def put(self, path: str, data: bytes) -> None:
        self.store.put(self._path(path), data)

    def open(self, path: str = "") -> BinaryIO:
        self.written.append(path)
        return self._file(len(self.written) - 1).open("wb")

    def send(self) -> None:
        """Send the files that were written, in their order."""
        for number, path in enumerate(self.written):
            self.store.put_file(self._path(path), self._file(number))

    def _file(self, number: int) -> Path:
        return self.staged / str(number)

    def _path(self, path: str) -> str:
        return f"{self.prefix}/{path}" if path else self.prefix


@contextmanager
def open_destination(place: str, storage: Storage, *, is_folder: bool, overwrite: bool) -> Iterator[Destination]:
    """Write an export in the context; what was written appears when that ends without an exception.

    Args:
        place: path, or any fsspec URL.
        storage: how S3 is reached.
        is_folder: whether the export is a folder; if not, it is one file.
        overwrite: replace an earlier file, or an earlier exported folder.

    Raises:
        JobError: there is something that must not be replaced, or nothing can be written there.
        ClusterError: storage does not respond.
    """
    try:
        store, name = open_parent(place, storage)
    except FileNotFoundError as error:
        raise JobError([f"--out: {place} is no name of a {'folder' if is_folder else 'file'}"]) from error
    try:
        store.check_writable()
        if store.is_local:
            with _local(Path(store.root) / name, is_folder=is_folder, overwrite=overwrite) as local:
                yield local
        else:
            with _remote(store, name, is_folder=is_folder, overwrite=overwrite) as remote:
                yield remote
    except OSError as error:
        if isinstance(error, ClusterError):
            raise
        raise JobError([f"--out: cannot write {place}: {error.strerror or error}"]) from error


@contextmanager
def _local(target: Path, *, is_folder: bool, overwrite: bool) -> Iterator[_Local]:
    _check_local(target, is_folder=is_folder, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f"{TEMPORARY}{uuid4().hex}")
    try:
        if is_folder:
            staged.mkdir()
        yield _Local(str(target), staged)
        _check_local(target, is_folder=is_folder, overwrite=overwrite)  # Perhaps there is something by now.
        _move(staged, target)
    finally:
        _remove(staged)


def _check_local(target: Path, *, is_folder: bool, overwrite: bool) -> None:
    """Raise JobError if there is something that must not be replaced."""
    if not os.path.lexists(target):
        return
    if target.is_symlink() or target.is_dir() != is_folder:
        kind = "a symbolic link" if target.is_symlink() else "a folder" if target.is_dir() else "a file"
        raise JobError([f"--out: {target} is {kind}; name another place"])
    if not is_folder and not target.is_file():
        raise JobError([f"--out: {target} is a device or a pipe; name another place"])
    is_empty = not any(target.iterdir()) if is_folder else target.stat().st_size == 0
    if not is_empty:
        _check_replaceable(str(target), overwrite, is_export=not is_folder or _is_export(target))


def _is_export(folder: Path) -> bool:
    manifest = folder / MANIFEST
    return manifest.is_file() and _is_manifest(manifest.read_bytes())


def _is_manifest(data: bytes) -> bool:
    """Return whether this is the manifest of an export: other programs write files of that name, too."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.keys() >= {"format", "path", "run", "rows"}


def _check_replaceable(place: str, overwrite: bool, *, is_export: bool) -> None:
    if not is_export:
        raise JobError([f"--out: {place} is not empty, and no earlier export ({MANIFEST}); name another place"])
    if not overwrite:
        raise JobError([f"--out: {place} exists; {_REPLACE}, or name another place"])


def _move(staged: Path, target: Path) -> None:
    """Put what was written in its place. An earlier folder is moved away first, and removed afterwards."""
    if not target.is_dir():
        staged.replace(target)
        return
    earlier = target.with_name(f"{TEMPORARY}{uuid4().hex}")
    target.rename(earlier)
    try:
        staged.rename(target)
    except OSError:
        earlier.rename(target)
        raise
    _remove(earlier)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _remote(store: Store, name: str, *, is_folder: bool, overwrite: bool) -> Iterator[_Remote]:
    place = store.url(name)
    below = next(store.list(name), None) if is_folder else None
    if below is not None:
        _check_replaceable(place, overwrite, is_export=_is_remote_export(store, name))
        _clear(store, name)
    elif not is_folder and store.exists(name) and store.size(name):
        _check_replaceable(place, overwrite, is_export=True)
    with tempfile.TemporaryDirectory(prefix="fewshot-export-") as staged:
        remote = _Remote(place, store, name, Path(staged))
        yield remote
        remote.send()


def _is_remote_export(store: Store, folder: str) -> bool:
    try:
        return _is_manifest(store.get(f"{folder}/{MANIFEST}"))
    except FileNotFoundError:
        return False


def _clear(store: Store, folder: str) -> None:
    """Remove an earlier export: first what says that it is one as a whole."""
    store.delete(f"{folder}/{MANIFEST}")
    for path in store.list(folder):
        store.delete(path)
