"""Whole objects on S3, with as few requests for each operation as possible.

s3fs provides a client that threads share, signatures, and Python exceptions. Its own `info`, `exists` and `ls` are not
used: they make two requests, or one for each folder. What is read in large numbers (objects, listings) does not go
through it, see `cluster.storage.s3_requests`.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from mmap import mmap
from typing import Any

from cluster.storage.error_classes import http_status, is_store_wide, is_transient, is_web_page
from cluster.storage.filesystems import fetch
from cluster.storage.retry import Retry
from cluster.storage.s3_listing import NotS3Error, Page, is_listing, list_flat, request_page

PART_BYTES = 64 << 20
"""Objects of at least twice this size are sent in parts of this size: S3 refuses a single PUT above 5 GiB, and only the
part that failed is sent again. S3 allows 10,000 parts, which is 640 GB."""
CONCURRENT_PARTS = 4


class S3Objects:
    """See `Objects` in `cluster.storage.objects`. Only the requests of a multipart upload are retried here."""

    def __init__(self, filesystem: Any, root: str, retry: Retry, *, part_bytes: int = PART_BYTES) -> None:
        self._filesystem, self._retry = filesystem, retry
        self._bucket, _, prefix = root.rstrip("/").partition("/")
        self._prefix = prefix and f"{prefix}/"
        self._part_bytes = part_bytes

    def write(self, path: str, data: bytes | mmap) -> None:
        """Write with one PUT, or a large object with a multipart upload, which is completed as a whole or aborted."""
        if len(data) < 2 * self._part_bytes:
            self._call("put_object", Key=self._key(path), Body=data[:])
        else:
            self._write_in_parts(self._key(path), data)

    def write_new(self, path: str, data: bytes) -> None:
        """Write with one conditional PUT (If-None-Match: *), never in parts: some servers ignore the condition then."""
        try:
            self._call("put_object", Key=self._key(path), Body=data, IfNoneMatch="*")
        except OSError as error:
            if http_status(error) == 412:  # s3fs recognises AWS's wording of this error, not that of other servers.
                raise FileExistsError(path) from error
            raise

    def read(self, path: str) -> bytes:
        """Read with one GET."""
        return fetch(self._filesystem, f"{self._bucket}/{self._key(path)}")

    def size(self, path: str) -> int:
        """Look up with one HEAD."""
        return int(self._call("head_object", Key=self._key(path))["ContentLength"])

    def age_s(self, path: str) -> float | None:
        """Look up with one HEAD; both times in its response are the server's."""
        response = self._call("head_object", Key=self._key(path))
        now = response["ResponseMetadata"]["HTTPHeaders"].get("date")
        if now is None:
            return None
        written: datetime = response["LastModified"]
        return max(0.0, (parsedate_to_datetime(now) - written).total_seconds())

    def list(self, folder: str) -> Iterator[str]:
        """List with one request for a thousand objects, at any depth. Objects that mark a folder are skipped."""
        for path, _ in self.sizes(folder):
            yield path

    def sizes(self, folder: str) -> Iterator[tuple[str, int]]:
        """List like `list`: the same responses have the lengths."""
        for page in self._pages(folder):
            for item in page.objects:
                if not item.key.endswith("/"):
                    yield item.key.removeprefix(self._prefix), item.size

    def folders(self, folder: str) -> Iterator[str]:
        """List with one request for a thousand folders, whatever their size."""
        for page in self._pages(folder, delimiter="/"):
            for name in page.folders:
                yield name.removeprefix(self._prefix).rstrip("/")

    def delete(self, path: str) -> None:
        """Remove with one DELETE. S3 does not report whether the object existed."""
        self._call("delete_object", Key=self._key(path))

    def check_access(self) -> None:
        """List at most one object.

        Raises:
            NotS3Error: another server responds.
        """
        try:
            if not is_listing(self._call("list_objects_v2", Prefix=self._prefix, MaxKeys=1)):
                raise NotS3Error(errno.EPROTO, "the response is not an S3 listing")
        except OSError as error:
            if is_web_page(error):
                raise NotS3Error(errno.EPROTO, "the response to a listing is a web page") from error
            if isinstance(error, FileNotFoundError) and not is_store_wide(error):  # S3 says that there is no bucket.
                raise NotS3Error(errno.EPROTO, "the response to a listing is 404 without a reason") from error
            raise

    def check_writable(self) -> None:
        """Do nothing: only writing shows it."""

    def remove_stale_files(self, folder: str, older_than_s: float) -> int:
        """Do nothing: unfinished uploads are in no listing of objects; a lifecycle rule of the bucket removes them."""
        del folder, older_than_s
        return 0

    def _write_in_parts(self, key: str, data: bytes | mmap) -> None:
        """Upload in parts, not with s3fs: that sends all parts again if one is refused, and aborts while others run."""
        upload = {"Key": key, "UploadId": self._call("create_multipart_upload", Key=key)["UploadId"]}

        def send(start: int) -> dict[str, Any]:
            number, part = 1 + start // self._part_bytes, data[start : start + self._part_bytes]
            return {
                "PartNumber": number,
                "ETag": self._retry_call("upload_part", upload, PartNumber=number, Body=part)["ETag"],
            }

        try:
            with ThreadPoolExecutor(CONCURRENT_PARTS, thread_name_prefix="parts") as threads:
                parts = list(threads.map(send, range(0, len(data), self._part_bytes)))
            self._complete(upload, parts)
        except BaseException:
            with suppress(Exception):  # The original error is more useful than that of the abort.
                self._retry_call("abort_multipart_upload", upload)
            raise

    def _complete(self, upload: Mapping[str, str], parts: Sequence[dict[str, Any]]) -> None:
        """Complete an upload. If the response is lost, the retry finds no upload; then the object's ETag decides."""
        try:
            self._retry_call("complete_multipart_upload", upload, MultipartUpload={"Parts": parts})
        except FileNotFoundError:
            with suppress(FileNotFoundError):
                if self._etag(upload["Key"]) == _multipart_etag(parts):
                    return
            raise OSError(errno.EIO, "the multipart upload no longer exists on the server") from None

    def _etag(self, key: str) -> str:
        return str(self._retry_call("head_object", {"Key": key})["ETag"]).strip('"')

    def _retry_call(self, method: str, target: Mapping[str, str], **arguments: Any) -> dict[str, Any]:
        return self._retry.call(lambda: self._call(method, **target, **arguments), is_transient=is_transient)

    def _pages(self, folder: str, *, delimiter: str = "") -> Iterator[Page]:
        prefix = self._key(f"{folder}/" if folder else "")
        return list_flat(partial(request_page, self._filesystem, self._bucket), prefix, delimiter=delimiter)

    def _key(self, path: str) -> str:
        return f"{self._prefix}{path}"

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        response: dict[str, Any] = self._filesystem.call_s3(method, Bucket=self._bucket, **arguments)
        return response


def _multipart_etag(parts: Sequence[dict[str, Any]]) -> str | None:
    """Return the ETag of an object uploaded in these parts; None where the ETags of the parts are not hashes."""
    try:
        hashes = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in parts)
    except ValueError:
        return None
    return f"{hashlib.md5(hashes, usedforsecurity=False).hexdigest()}-{len(parts)}"
