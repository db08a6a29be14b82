"""Read objects with retries: an object that cannot be read is an EntryError, storage that is down a StorageError."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TypeVar

from fsspec import AbstractFileSystem, get_filesystem_class

from cluster.errors import ChangedError, StorageError
from cluster.records.base import EntryError, Record
from cluster.records.local_files import FILE_FLAGS, Link, open_listed
from cluster.storage.error_classes import (
    advice,
    http_status,
    is_storage_error,
    is_store_wide,
    is_throttled,
    is_transient,
    summary,
)
from cluster.storage.filesystems import fetch, is_changed, is_s3
from cluster.storage.read_ahead import MAX_REQUESTS, Window, in_order
from cluster.storage.retry import Retry

T = TypeVar("T")
R = TypeVar("R")

RETRY = Retry(deadline_s=60.0)
FIRST_LOOK_S = 10.0
"""Deadline of `RETRY` before any work: a server that is down then is rather a wrong address."""
_is_first_look = ContextVar("is_first_look", default=False)
_S3_OBJECTS = Window(first=8, most=MAX_REQUESTS)
_OTHER_OBJECTS = Window(first=8, most=32)
"""Requests in flight to servers that may not be made for many."""

NOT_FOUND = "not found"
_PERMANENT = {
    FileNotFoundError: NOT_FOUND,
    PermissionError: "permission denied",
    IsADirectoryError: "a folder, not a file",
    NotADirectoryError: NOT_FOUND,
}
CHANGED = "changed since it was listed; run again"
_PERMANENT_ERRNO = frozenset({errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV})


def too_large(size: int, max_bytes: int) -> str:
    """Return the reason why an entry of this size is not read."""
    return f"too large: {size} bytes, at most {max_bytes} are read"


def first_line(error: BaseException) -> str:
    """Return the first line of an error, shortened; the name of its type if it has no text."""
    lines = str(error).splitlines()
    return lines[0][:120] if lines else type(error).__name__


@contextmanager
def first_look() -> Iterator[None]:
    """Give up after `FIRST_LOOK_S` in the block, in this thread; later on servers that limit the rate of requests."""
    before = _is_first_look.set(True)
    try:
        yield
    finally:
        _is_first_look.reset(before)


def with_retries(operation: Callable[[], T], what: str) -> T:
    """Call a storage operation until it succeeds, fails permanently, or `RETRY` gives up.

    Args:
        operation: makes requests to storage; may be called several times.
        what: the name of the object in error messages.

    Raises:
        EntryError: this one object cannot be read, now or later.
        ChangedError: the object is no longer what was listed.
        StorageError: storage failed in a way that may pass.
    """
    try:
        return _retry().call(operation, is_transient=_is_transient, is_throttled=is_throttled)
    except Exception as error:
        if is_changed(error) or isinstance(error, ChangedError):
            raise ChangedError(f"{what} {CHANGED}") from None
        if reason := _permanent_reason(error):
            raise EntryError(reason) from None
        if not is_storage_error(error) or isinstance(error, StorageError):
            raise
        # The original error is not shown beside it: it may name a URL with credentials.
        raise StorageError(f"cannot read {what}: {summary(error)}. {advice(error)}") from None


def _retry() -> Retry:
    if not _is_first_look.get():
        return RETRY
    return replace(RETRY, deadline_s=min(RETRY.deadline_s, FIRST_LOOK_S), throttled_deadline_s=RETRY.deadline_s)


def read_local(path: str | bytes, max_bytes: int) -> bytes:
    """Read a regular local file, through symbolic links, without waiting for a pipe or a device.

    Raises:
        EntryError: no regular file, or larger than `max_bytes`.
        OSError: it cannot be opened or read.
    """
    return _read_regular(os.open(path, FILE_FLAGS), max_bytes)


def read_listed(root: str, path: str, link: Link, max_bytes: int) -> bytes:
    """Read a local file of a listing, see `open_listed`.

    Raises:
        EntryError: no regular file, or larger than `max_bytes`.
        ChangedError: a symbolic link was put in its place.
        OSError: it cannot be opened or read.
    """
    return _read_regular(open_listed(root, path, link), max_bytes)


def _read_regular(descriptor: int, max_bytes: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        status = check_regular(descriptor)
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise EntryError(too_large(max(status.st_size, len(data)), max_bytes))
    return data


def read_remote(filesystem: AbstractFileSystem, path: str, max_bytes: int) -> bytes:
    """Read an object of unknown size.

    Raises:
        EntryError: larger than `max_bytes`.
        OSError: it cannot be read.
    """
    if is_s3(filesystem):
        data = fetch(filesystem, path, end=max_bytes + 1)
    else:  # Block size 0 streams over HTTP, so that the server need not support ranges.
        options = {"block_size": 0} if isinstance(filesystem, get_filesystem_class("http")) else {}
        with filesystem.open(path, "rb", **options) as file:
            data = bytes(file.read(max_bytes + 1))
    if len(data) > max_bytes:
        raise EntryError(f"too large: more than {max_bytes} bytes")
    return data


def check_regular(descriptor: int) -> os.stat_result:
    """Return the status of an open file.

    Raises:
        EntryError: no regular file.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise EntryError("not a regular file")
    return status


def etag_of(version: str) -> str:
    """Return the version of an object if it is an ETag, which S3 can compare; otherwise ""."""
    return version if version.startswith('"') else ""


def ordered_map(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Map in several threads and in order, at most a few results ahead of the caller."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="records") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def request_ahead(
    function: Callable[[T], R],
    items: Iterable[T],
    filesystem: AbstractFileSystem,
    *,
    size_of: Callable[[T], int | None] = lambda _: None,
) -> Iterator[R]:
    """Map by requests to remote storage, in order, with as many in flight as hide its latency; see `in_order`."""
    window = _S3_OBJECTS if is_s3(filesystem) else _OTHER_OBJECTS
    return in_order(function, items, window, size_of=size_of, length_of=_content_bytes)


def _content_bytes(result: object) -> int:
    """Return the bytes of a content, or of that of a record; 0 of a reason."""
    content = result.data if isinstance(result, Record) else result
    return len(content) if isinstance(content, bytes) else 0


def _is_transient(error: Exception) -> bool:
    return is_transient(error) and _permanent_reason(error) is None


def _permanent_reason(error: Exception) -> str | None:
    """Return why this object cannot be read, now or later; None if the error may pass or is about the store."""
    if is_store_wide(error):
        return None
    for kind, reason in _PERMANENT.items():
        if isinstance(error, kind):
            return reason
    if isinstance(error, OSError) and error.errno in _PERMANENT_ERRNO:
        return os.strerror(error.errno).lower()
    status = http_status(error)
    refused = status is not None and 400 <= status < 500 and not is_transient(error)
    return f"refused: HTTP status {status}" if refused else None
