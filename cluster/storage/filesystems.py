"""File systems of fsspec, opened once in a process for each bucket or host, and set up to be retried by us alone.

A new S3 client takes a quarter of a second, and fsspec's own cache would make one for every thread. Three layers know
how to try again: botocore, s3fs and we. As they come, the two below send a refused request 25 times in 36 s (measured)
before we hear of it, so they are told to try once; `cluster.storage.retry` has the jitter and the deadline.
"""

from __future__ import annotations

import atexit
import os
import tempfile
import threading
from pathlib import Path
from typing import Any, cast

from fsspec import AbstractFileSystem, get_filesystem_class
from fsspec.asyn import sync

from cluster.errors import SourceError
from cluster.storage.settings import S3_SCHEMES, Storage

CONNECT_S, READ_S = 10, 30
"""Seconds to reach a server, and between two pieces of its answer."""
CONNECTIONS = 32
"""Requests of a process that one file system has under way at most."""

_open: dict[tuple[int, str, Storage], AbstractFileSystem] = {}
_opening = threading.Lock()


def open_filesystem(url: str, storage: Storage) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL, and the URL's path in it. Listings are never cached.

    Args:
        url: with a scheme.
        storage: how S3 is reached; other schemes make nothing of it.

    Raises:
        SourceError: there is no such scheme, or its package is not installed.
    """
    from fsspec.core import url_to_fs

    if "::" in url:  # One file system in another: these have no host of their own.
        filesystem, path = url_to_fs(url, use_listings_cache=False)
        return filesystem, str(path)
    scheme, _, rest = url.partition("://")
    key = (os.getpid(), f"{scheme}://{rest.partition('/')[0]}", storage)
    with _opening:
        if key not in _open:
            is_async = _class_of(scheme).async_impl
            fresh = {"use_listings_cache": False, "skip_instance_cache": True} if is_async else {}
            options = s3_options(storage) if scheme in S3_SCHEMES else {}
            _open[key], _ = url_to_fs(url, **fresh, **options)
            if is_s3(_open[key]):
                _open[key].retries = 1
        filesystem = _open[key]
    return filesystem, str(filesystem._strip_protocol(url))


def _class_of(scheme: str) -> Any:
    try:
        return get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        raise SourceError(f"{scheme}:// cannot be opened here: {error}") from error


def is_s3(filesystem: AbstractFileSystem) -> bool:
    """Whether this is s3fs, whose requests can be chosen one by one."""
    return hasattr(filesystem, "call_s3")


def fetch(filesystem: AbstractFileSystem, path: str, *, start: int = 0, end: int | None = None, tag: str = "") -> bytes:
    """Bytes of an object in one request, where s3fs would ask for the size first, and cut names at "?versionId=".

    Args:
        filesystem: from `open_filesystem`.
        path: of the object, in it.
        start: the first byte.
        end: the byte after the last; may lie behind the object's end. None is that end.
        tag: the ETag that a listing told; what has another one by now is refused (see `is_changed`). Only S3 looks at
            it; "" takes whatever is there.
    """
    if not is_s3(filesystem):
        whole = start == 0 and end is None
        return bytes(filesystem.cat_file(path) if whole else filesystem.cat_file(path, start=start, end=end))
    bucket, _, key = path.partition("/")
    span = {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
    try:
        return _get(filesystem, Bucket=bucket, Key=key, **span, **({"IfMatch": tag} if tag else {}))
    except OSError as error:
        if start == 0 and span and s3_code(error) == "InvalidRange":  # There is no first byte in an empty object.
            return b""
        if is_changed(error) and _is_listed(filesystem, bucket, key, tag):  # Servers need not agree with themselves.
            return _get(filesystem, Bucket=bucket, Key=key, **span)
        raise


def is_changed(error: BaseException) -> bool:
    """Whether S3 says that an object is no longer the one that was asked for."""
    return s3_code(error) in ("PreconditionFailed", "412")


def _get(filesystem: Any, **arguments: str) -> bytes:
    async def get() -> bytes:
        answer = await filesystem._call_s3("get_object", **arguments)
        async with answer["Body"] as body:
            return bytes(await body.read())

    return cast("bytes", sync(filesystem.loop, get))


def _is_listed(filesystem: Any, bucket: str, key: str, tag: str) -> bool:
    page = filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=1)
    return any((item["Key"], item["ETag"]) == (key, tag) for item in page.get("Contents", []))


def s3_options(storage: Storage) -> dict[str, Any]:
    """Keyword arguments of s3fs."""
    config: dict[str, Any] = {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": CONNECT_S,
        "read_timeout": READ_S,
        "max_pool_connections": CONNECTIONS,
    }
    if storage.endpoint is not None:  # Checksums behind the body are AWS's own; other servers refuse them.
        config |= {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    if storage.path_style is not None:
        config["s3"] = {"addressing_style": "path" if storage.path_style else "virtual"}
    client = {"region_name": storage.region, "verify": storage.certificates and _file_with(storage.certificates)}
    return {
        "anon": storage.anonymous,
        "endpoint_url": storage.endpoint,
        "config_kwargs": config,
        "client_kwargs": {name: value for name, value in client.items() if value is not None},
    }


def s3_code(error: BaseException) -> str:
    """What an S3 server calls an error; "" where it was none of its own."""
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _file_with(certificates: str) -> str:
    """A file of this process: the TLS library reads nothing else. In memory where that can be: workers are killed."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").exists():
        descriptor = os.memfd_create("certificates")
        name = f"/proc/self/fd/{descriptor}"  # Stays open: clients may read it at any time.
    else:
        descriptor, name = tempfile.mkstemp(suffix=".pem")
        os.close(descriptor)
        atexit.register(Path(name).unlink, missing_ok=True)
    Path(name).write_text(certificates)
    return name
