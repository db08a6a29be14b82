"""Named objects under one URL: a local folder, `s3://bucket/prefix`, `memory://`, or any other URL of fsspec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path, PurePosixPath
from typing import TypeVar

from cluster.errors import SourceError, StorageError
from cluster.secrets import has_parameters, has_password
from cluster.storage.error_classes import advice, is_storage_error, is_store_wide, is_throttled, is_transient, summary
from cluster.storage.exclusive_create import create_by_claims, supports_exclusive_create
from cluster.storage.objects import TEMPORARY, Objects, absolute_path, open_objects
from cluster.storage.retry import Retry
from cluster.storage.settings import DEFAULT_STORAGE, Storage

T = TypeVar("T")
L = TypeVar("L", str, tuple[str, int])

STALE_S = 86_400.0
"""Age in seconds at which a temporary file is stale: longer than clocks differ and servers are unavailable."""


_WRITING = ("write", "create")
"""Operations for which a missing object is no answer, but a place that cannot be written to, such as /proc."""


@dataclass(frozen=True)
class Store:
    """A picklable, hashable name of a location for objects; each process opens it on first use.

    Every operation is retried on transient errors until `retry.deadline_s`. A missing object is FileNotFoundError, a
    refused request PermissionError; every other failure is StorageError, with the URL, the operation and advice in the
    message.

    Attributes:
        root: an fsspec URL or a local path, which is made absolute so that it means the same to every worker.
        storage: S3 connection. Credentials are the environment's.
        retry: delays and deadline.

    Raises:
        StorageError: the URL contains a password, a query string or a signature.
        SourceError: the text cannot be a path or URL.
    """

    root: str
    _: KW_ONLY
    storage: Storage = field(default=DEFAULT_STORAGE, repr=False)
    retry: Retry = field(default=Retry(), repr=False, compare=False)

    def __post_init__(self) -> None:
        """Normalise the URL."""
        scheme, separator, rest = self.root.rpartition("://")
        if separator and (has_password(self.root) or has_parameters(self.root)):
            what = "a password" if has_password(self.root) else "a query string or a signature"
            raise StorageError(f"the {scheme}:// URL contains {what}; pass credentials through the environment")
        if not separator or scheme in ("file", "local"):
            object.__setattr__(self, "root", absolute_path(rest))
        elif "\0" in rest:
            raise SourceError(f"expected a URL, got {self.root!r} with a NUL character in it")
        elif rest.strip("/"):
            object.__setattr__(self, "root", self.root.rstrip("/"))

    @property
    def is_local(self) -> bool:
        """Whether objects are files on this machine, or on a file system mounted there."""
        return "://" not in self.root

    def url(self, path: str) -> str:
        """Return the URL (for a local store, the absolute path) of an object.

        Raises:
            ValueError: the path is not a plain relative one.
        """
        return f"{self.root.rstrip('/')}/{_checked(path)}"

    def put(self, path: str, data: bytes) -> None:
        """Create or replace an object as a whole: a reader sees the old bytes or the new ones, never a part."""
        self._retried("write", _checked(path), lambda objects: objects.write(path, data))

    def put_file(self, path: str, file: Path) -> None:
        """Create or replace an object with the content of a local file; see `put`. S3 gets large ones part by part."""
        with file.open("rb") as content:
            if file.stat().st_size == 0:  # Nothing can be mapped of it.
                self.put(path, b"")
                return
            with mmap(content.fileno(), 0, access=ACCESS_READ) as mapped:
                self._retried("write", _checked(path), lambda objects: objects.write(path, mapped))

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Create an object unless it exists; of several writers at once, one wins.

        Responses can be lost, so this call cannot distinguish its own object from an identical one of another writer:
        racing writers should write unique bytes (a name, a random token). For storage without conditional writes, see
        `cluster.storage.exclusive_create`.

        Returns:
            Whether the object now has these bytes.
        """
        _checked(path)
        location = (self.root, self.storage)
        if not self._retried("create", path, lambda objects: supports_exclusive_create(objects, location)):
            with self._named_errors("create", path):
                return create_by_claims(self._open(), self.retry, path, data)

        def attempt(objects: Objects) -> bool:
            try:
                objects.write_new(path, data)
            except FileExistsError:  # Perhaps created by this very request: the HTTP client may send it twice.
                with suppress(FileNotFoundError):
                    return objects.read(path) == data
                return False
            return True

        return self._retried("create", path, attempt)

    def get(self, path: str) -> bytes:
        """Return the content of an object.

        Raises:
            FileNotFoundError: the object does not exist.
        """
        return self._retried("read", _checked(path), lambda objects: objects.read(path))

    def exists(self, path: str) -> bool:
        """Return whether there is an object (not a folder) of this name."""
        try:
            self.size(path)
        except FileNotFoundError:
            return False
        return True

    def size(self, path: str) -> int:
        """Return the length of an object in bytes.

        Raises:
            FileNotFoundError: the object does not exist.
        """
        return self._retried("look up", _checked(path), lambda objects: objects.size(path))

    def age_s(self, path: str) -> float | None:
        """Return the seconds since an object was written, >= 0; None where storage does not report it.

        On S3 both times are the server's; on a network mount, clocks may differ. For messages, not for decisions.

        Raises:
            FileNotFoundError: the object does not exist.
        """
        return self._retried("look up", _checked(path), lambda objects: objects.age_s(path))

    def list(self, prefix: str = "") -> Iterator[str]:
        """List all objects below a folder.

        Args:
            prefix: a folder, relative to the root; "" is the root. A missing one has no objects.

        Returns:
            Sorted paths relative to the root, at any depth. Always a fresh listing, never a cached one.
        """
        return self._listed(prefix, lambda objects, folder: objects.list(folder))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """List all objects below a folder with their lengths, by the requests of `list`.

        Args:
            prefix: a folder, relative to the root; "" is the root. A missing one has no objects.

        Returns:
            By path relative to the root, the length in bytes.
        """
        return dict(self._listed(prefix, lambda objects, folder: objects.sizes(folder)))

    def folders(self, prefix: str = "") -> Iterator[str]:
        """List the folders directly in a folder, in a few requests whatever their size.

        Args:
            prefix: a folder, relative to the root; "" is the root. A missing one has no folders.

        Returns:
            Sorted paths relative to the root. Always a fresh listing, never a cached one.
        """
        return self._listed(prefix, lambda objects, folder: objects.folders(folder))

    def delete(self, path: str) -> None:
        """Remove an object if it exists."""
        try:
            self._retried("delete", _checked(path), lambda objects: objects.delete(path))
        except FileNotFoundError:
            return

    def remove_stale_files(self, folder: str) -> int:
        """Remove the temporary files that killed writers left directly in a local folder.

        Safe beside active writers: writing a file takes seconds, and only files not modified for `STALE_S` are removed.

        Args:
            folder: relative to the root; "" is the root. It may be missing.

        Returns:
            The number of removed files.
        """
        return self._retried(
            "clean up", folder and _checked(folder), lambda objects: objects.remove_stale_files(folder, STALE_S)
        )

    def check_access(self) -> None:
        """Make one cheap request, so that a wrong location is found before any work is done for it.

        Raises:
            StorageError: the store cannot be used: no such bucket, no credentials, no response.
            PermissionError: the credentials do not allow listing it.
        """
        self._retried("reach", "", lambda objects: objects.check_access())

    def check_writable(self) -> None:
        """Check whether a local folder can be written to, without writing anything. Remote storage is not checked.

        Raises:
            StorageError: it cannot: a read-only file system, a full disk, a file in the way.
            PermissionError: the permissions do not allow it.
        """
        self._retried("write", "", lambda objects: objects.check_writable())

    def _listed(self, prefix: str, entries: Callable[[Objects, str], Iterator[L]]) -> Iterator[L]:
        folder = prefix.strip("/")
        where = _checked(folder) if folder else ""
        return iter(self._retried("list", where, lambda objects: sorted(entries(objects, folder))))

    def _retried(self, operation: str, path: str, action: Callable[[Objects], T]) -> T:
        with self._named_errors(operation, path):
            return self.retry.call(lambda: action(self._open()), is_transient=is_transient, is_throttled=is_throttled)

    def _open(self) -> Objects:
        return open_objects(self.root, self.storage, self.retry)

    @contextmanager
    def _named_errors(self, operation: str, path: str) -> Iterator[None]:
        """Raise storage errors as `Store` documents them, with the operation, the URL and what to do in the message."""
        try:
            yield
        except Exception as error:
            if not is_storage_error(error):
                raise
            is_refusal = self.is_local and operation in _WRITING
            is_missing = isinstance(error, FileNotFoundError) and not is_refusal
            if is_missing and not is_store_wide(error):
                raise
            where = f"{self.root.rstrip('/')}/{path}".rstrip("/")
            found = "a folder has its name" if isinstance(error, IsADirectoryError) else summary(error)
            message = f"could not {operation} {where}: {found}. {advice(error)}"
            is_refused = isinstance(error, PermissionError) and not is_store_wide(error)
            raise (PermissionError if is_refused else StorageError)(message) from error


@dataclass(frozen=True, slots=True)
class Ledger:
    """The record of committed parts, which consists of the parts themselves.

    One atomic object is the commit. A separate "done" mark could disagree with it and is not needed, for two reasons:
    the path contains a fingerprint of everything that determines the bytes, so an object of that name can be no other
    result; and the bytes are a function of the unit, so when two workers commit the same unit (a slow one that was
    given up, a second run beside the first), the second write replaces the object by an equal one. A write is whole or
    absent, so a unit whose worker is killed is either done or not done, and a listing of the folder shows which.
    """

    store: Store

    def done(self, prefix: str) -> frozenset[str]:
        """Return the paths, relative to the store, of all parts committed below a folder. Always a fresh listing."""
        return frozenset(self.store.list(prefix))

    def commit(self, path: str, data: bytes) -> None:
        """Make a part durable and visible.

        Raises:
            StorageError: it could not be written; either there is no such part then, or it is this one.
        """
        self.store.put(path, data)

    def remove_stale_files(self, folder: str) -> None:
        """Remove what killed writers left in a folder; see `Store.remove_stale_files`."""
        self.store.remove_stale_files(folder)


def _checked(path: str) -> str:
    """Return the path if it is normalised, stays below the root and is not reserved for temporary files."""
    plain = PurePosixPath(path)
    if not plain.name or plain.as_posix() != path or plain.is_absolute() or ".." in plain.parts:
        raise ValueError(f"expected a plain relative path below the store's root, such as 'a/b.bin', got {path!r}")
    if plain.name.startswith(TEMPORARY):
        raise ValueError(f"names that begin with {TEMPORARY!r} are reserved for temporary files, got {path!r}")
    return path
