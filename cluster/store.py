"""Named objects under one URL: a local folder, `s3://bucket/prefix`, `memory://`, or whatever else fsspec opens."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from cluster.errors import StorageError
from cluster.objects import TEMPORARY, LocalObjects, Objects, open_remote
from cluster.retry import Retry

T = TypeVar("T")

_NAMED = (FileNotFoundError, PermissionError)  # Not transient and clear enough: they reach the caller as they are.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_HOPELESS = frozenset({errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EOPNOTSUPP})
_HOPELESS_TYPES = (*_NAMED, FileExistsError, IsADirectoryError, NotADirectoryError)
_CLIENT_LIBRARIES = frozenset({"aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "azure"})
_NOT_SET_UP = frozenset({"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "ParamValidationError"})


@dataclass(frozen=True)
class Store:
    """A picklable, hashable name of a place that keeps objects; each process opens it when it first needs it.

    Every operation is retried on transient errors until `retry.deadline_s`. A missing object is FileNotFoundError, a
    refused one PermissionError; every other trouble ends as StorageError, naming the URL, the operation and what to
    do about it.

    Attributes:
        root: an fsspec URL or a local path, which is made absolute so that it means the same to every worker.
        storage_options: keyword arguments of the fsspec file system, such as `endpoint_url`. Credentials are better
            left to the environment; they are never shown either way.
        retry: when to try again.

    Raises:
        StorageError: the URL itself carries a password.
    """

    root: str
    _: KW_ONLY
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)
    retry: Retry = field(default=Retry(), repr=False, compare=False)

    def __post_init__(self) -> None:
        """Bring the URL into one form."""
        scheme, separator, rest = self.root.rpartition("://")
        if separator and ":" in rest.partition("/")[0].rpartition("@")[0]:
            raise StorageError(f"the {scheme} URL carries a password: give credentials through the environment")
        if not separator or scheme in ("file", "local"):
            object.__setattr__(self, "root", str(Path(rest).expanduser().absolute()))
        elif rest.strip("/"):
            object.__setattr__(self, "root", self.root.rstrip("/"))

    @property
    def is_local(self) -> bool:
        """Whether objects are files of this machine (or of a file system mounted on it)."""
        return "://" not in self.root

    def url(self, path: str) -> str:
        """The URL (for a local store, the absolute path) of an object.

        Raises:
            ValueError: the path is not a plain relative one.
        """
        return f"{self.root.rstrip('/')}/{_checked(path)}"

    def put(self, path: str, data: bytes) -> None:
        """Create or replace an object as a whole: a reader sees the old bytes or the new ones, never a part."""
        self._retried("write", _checked(path), lambda objects: objects.write(path, data))

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Create an object unless it exists; of several writers at once, one wins.

        When an answer was lost on the way, this cannot tell its own object from an identical one of somebody else:
        let racing writers write something of their own (a name, a random token). Needs a server with conditional
        writes (AWS S3, Ceph, GCS, Azure; some others silently overwrite).

        Returns:
            Whether the object is now this one.
        """
        tried = False

        def attempt(objects: Objects) -> bool:
            nonlocal tried
            again, tried = tried, True
            try:
                objects.write_new(path, data)
            except FileExistsError:
                return again and objects.read(path) == data
            return True

        return self._retried("create", _checked(path), attempt)

    def get(self, path: str) -> bytes:
        """The content of an object.

        Raises:
            FileNotFoundError: there is no such object.
        """
        return self._retried("read", _checked(path), lambda objects: objects.read(path))

    def exists(self, path: str) -> bool:
        """Whether there is an object (not a folder) of this name."""
        try:
            self.size(path)
        except FileNotFoundError:
            return False
        return True

    def size(self, path: str) -> int:
        """The length of an object in bytes.

        Raises:
            FileNotFoundError: there is no such object.
        """
        return self._retried("look up", _checked(path), lambda objects: objects.size(path))

    def list(self, prefix: str = "") -> Iterator[str]:
        """All objects below a folder.

        Args:
            prefix: a folder, relative to the root; "" is the root. A missing one has no objects.

        Returns:
            Sorted paths relative to the root, at any depth. Always asked anew, never from a listing cache.
        """
        folder = prefix.strip("/")
        paths = self._retried("list", _checked(folder) if folder else "", lambda objects: sorted(objects.list(folder)))
        return iter(paths)

    def delete(self, path: str) -> None:
        """Remove an object; nothing happens if there is none."""
        try:
            self._retried("delete", _checked(path), lambda objects: objects.delete(path))
        except FileNotFoundError:
            return

    def _objects(self) -> Objects:
        return LocalObjects(self.root) if self.is_local else open_remote(self.root, self.storage_options or {})

    def _retried(self, operation: str, path: str, action: Callable[[Objects], T]) -> T:
        try:
            return self.retry.call(lambda: action(self._objects()), is_transient=_is_transient)
        except _NAMED:
            raise
        except Exception as error:
            if not _is_storage_trouble(error):
                raise
            where = f"{self.root.rstrip('/')}/{path}"
            raise StorageError(f"could not {operation} {where}: {_summary(error)}. {_advice(error)}") from error


def _checked(path: str) -> str:
    """The path, if it is in one form, stays below the root and is no name that this package uses itself."""
    plain = PurePosixPath(path)
    if not plain.name or plain.as_posix() != path or plain.is_absolute() or ".." in plain.parts:
        raise ValueError(f"expected a plain relative path below the store's root, got {path!r}")
    if plain.name.startswith(TEMPORARY):
        raise ValueError(f"names that begin with {TEMPORARY!r} are the store's own, got {path!r}")
    return path


def _is_storage_trouble(error: Exception) -> bool:
    """Whether the error comes from storage. Client libraries raise some that are not OSErrors."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _CLIENT_LIBRARIES


def _is_transient(error: Exception) -> bool:
    if isinstance(error, _HOPELESS_TYPES) or type(error).__name__ in _NOT_SET_UP:
        return False
    return _is_storage_trouble(error) and getattr(error, "errno", None) not in _FULL | _HOPELESS


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(". ")


def _advice(error: Exception) -> str:
    """What the user can do about it."""
    if getattr(error, "errno", None) in _FULL:
        return "The storage is full (or over its quota): free some space and run again; what is done stays done."
    if type(error).__name__ in _NOT_SET_UP:
        return "Storage is not set up: give credentials through the environment."
    if not _is_transient(error):
        return "Trying again would not help: choose another output."
    return "Storage did not recover in time: check the connection and the endpoint, then run again to resume."
