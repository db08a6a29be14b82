"""fsspec file systems, opened once in a process for each bucket or host, with all retrying left to `Retry`.

A new S3 client takes a quarter of a second, and fsspec's own cache would make one for every thread. Three layers can
retry: botocore, s3fs and this package. With default settings the two below send a refused request 25 times in 36 s
(measured) before the error reaches this package, so both are limited to one attempt; `cluster.storage.retry` has the
jitter and the deadline.
"""

from __future__ import annotations

import atexit
import errno
import os
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from fsspec import AbstractFileSystem, get_filesystem_class
from fsspec.asyn import sync

from cluster.errors import ChangedError, SourceError
from cluster.storage.s3_listing import request_page
from cluster.storage.s3_requests import (
    CONNECT_TIMEOUT_S,
    READ_TIMEOUT_S,
    REDIRECTED,
    discard_requests,
    s3_code,
    s3_requests,
)
from cluster.storage.settings import S3_SCHEMES, Storage

MAX_CONNECTIONS = 32
"""Concurrent requests of s3fs in a process. GET requests and listings do not count: `s3_requests` makes them."""

_open: dict[tuple[int, str, Storage], AbstractFileSystem] = {}
_opening = threading.Lock()


def open_filesystem(url: str, storage: Storage) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a URL, and the URL's path in it. Listings are never cached.

    Args:
        url: with a scheme.
        storage: S3 connection; ignored by other schemes.

    Raises:
        SourceError: the scheme is unknown, or its package is not installed.
    """
    from fsspec.core import url_to_fs

    if "::" in url:  # One file system in another: these have no host of their own.
        filesystem, path = url_to_fs(url, use_listings_cache=False)
        return filesystem, str(path)
    scheme, _, rest = url.partition("://")
    key = (os.getpid(), f"{scheme}://{rest.partition('/')[0]}", storage)
    with _opening:
        if key not in _open:
            is_async = _filesystem_class(scheme).async_impl
            fresh = {"use_listings_cache": False, "skip_instance_cache": True} if is_async else {}
            options = s3_options(storage) if scheme in S3_SCHEMES else {}
            _open[key], _ = url_to_fs(url, **fresh, **options)
            if is_s3(_open[key]):
                _open[key].retries = 1
        filesystem = _open[key]
    return filesystem, str(filesystem._strip_protocol(url))


def _filesystem_class(scheme: str) -> Any:
    try:
        return get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        raise SourceError(f"cannot open {scheme}:// URLs: {error}") from error


def is_s3(filesystem: AbstractFileSystem) -> bool:
    """Return whether this is s3fs, which can send single requests."""
    return hasattr(filesystem, "call_s3")


def fetch(
    filesystem: AbstractFileSystem,
    path: str,
    *,
    start: int = 0,
    end: int | None = None,
    tag: str = "",
    size: int | None = None,
) -> bytes:
    """Read bytes of an object in one request.

    s3fs itself would request the size first, and cut names at "?versionId=".

    Args:
        filesystem: from `open_filesystem`.
        path: of the object in the file system.
        start: the first byte.
        end: the byte after the last; may lie beyond the object's end. None is that end.
        tag: ETag from a listing; an object that has another one by now is refused (see `is_changed`). Only S3 compares
            it; "" accepts any version.
        size: bytes of the whole object in a listing. A response without a length can break off unnoticed otherwise.
            Only of S3 they are compared; None accepts any number.

    Raises:
        ChangedError: a whole object has fewer bytes than were listed, and is listed differently by now.
        Exception: the library's own.
    """
    if not is_s3(filesystem):
        is_whole = start == 0 and end is None
        return bytes(filesystem.cat_file(path) if is_whole else filesystem.cat_file(path, start=start, end=end))
    bucket, _, key = path.partition("/")
    headers = {"if-match": tag} if tag else {}
    if start or end is not None:
        headers["range"] = f"bytes={start}-{'' if end is None else end - 1}"
    most = None if end is None else end - start + 1  # One more shows that a server ignores ranges.
    try:
        data = _get(filesystem, bucket, key, headers, most)
    except OSError as error:
        if start == 0 and "range" in headers and s3_code(error) == "InvalidRange":  # An empty object has no first byte.
            return b""
        if is_changed(error) and _is_listed(filesystem, bucket, key, tag):  # Some servers compare ETags wrongly.
            del headers["if-match"]
            return _get(filesystem, bucket, key, headers, most)
        raise
    if size is not None and len(data) < size:
        if not _is_listed(filesystem, bucket, key, tag):
            raise ChangedError(path)
        raise OSError(errno.EIO, f"the response has {len(data)} of {size} bytes")
    return data


def is_changed(error: BaseException) -> bool:
    """Return whether S3 reports that an object no longer has the requested ETag."""
    return s3_code(error) in ("PreconditionFailed", "412")


def _get(filesystem: Any, bucket: str, key: str, headers: Mapping[str, str], max_bytes: int | None) -> bytes:
    """Read an object by a request of our own; by s3fs where only that can make one, or follows a redirect."""
    if (requests := s3_requests(filesystem, bucket)) is not None:
        try:
            return requests.get(key, headers, max_bytes=max_bytes)
        except OSError as error:
            if s3_code(error) not in REDIRECTED:
                raise
    data = _get_by_s3fs(filesystem, bucket, key, headers)
    if requests is not None:  # It was redirected, and remembers where to.
        discard_requests(filesystem, bucket)
    return data


def _get_by_s3fs(filesystem: Any, bucket: str, key: str, headers: Mapping[str, str]) -> bytes:
    names = {"range": "Range", "if-match": "IfMatch"}
    arguments = {"Bucket": bucket, "Key": key, **{names[name]: value for name, value in headers.items()}}

    async def get() -> bytes:
        response = await filesystem._call_s3("get_object", **arguments)
        async with response["Body"] as body:
            return bytes(await body.read())

    return cast("bytes", sync(filesystem.loop, get))


def _is_listed(filesystem: Any, bucket: str, key: str, tag: str) -> bool:
    """Return whether a fresh listing has the object with this ETag."""
    page = request_page(filesystem, bucket, prefix=key, most=1)
    return any((item.key, item.tag) == (key, tag) for item in page.objects)


def s3_options(storage: Storage) -> dict[str, Any]:
    """Return the keyword arguments of s3fs."""
    config: dict[str, Any] = {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "max_pool_connections": MAX_CONNECTIONS,
    }
    if storage.endpoint is not None:  # Only AWS accepts checksums behind the body; other servers refuse them.
        config |= {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    if storage.path_style is not None:
        config["s3"] = {"addressing_style": "path" if storage.path_style else "virtual"}
    client = {"region_name": storage.region, "verify": storage.certificates and _certificate_file(storage.certificates)}
    return {
        "anon": storage.anonymous,
        "endpoint_url": storage.endpoint,
        "config_kwargs": config,
        "client_kwargs": {name: value for name, value in client.items() if value is not None},
    }


def _certificate_file(certificates: str) -> str:
    """Return the name of a file with the certificates, for TLS libraries that read only files.

    It is in memory where possible: workers are killed, and would leave it behind.
    """
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").exists():
        descriptor = os.memfd_create("certificates")
        name = f"/proc/self/fd/{descriptor}"  # Stays open: clients may read it at any time.
    else:
        descriptor, name = tempfile.mkstemp(suffix=".pem")
        os.close(descriptor)
        atexit.register(Path(name).unlink, missing_ok=True)
    Path(name).write_text(certificates)
    return name
