"""Whole objects on S3, each operation the fewest requests that can do it.

s3fs is used for what it is good at: a client that threads share, signatures, errors as Python has them. Its own `info`,
`exists` and `ls` ask twice or folder by folder.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from cluster.storage.error_classes import http_status, is_transient
from cluster.storage.filesystems import fetch
from cluster.storage.retry import Retry

PART_BYTES = 64 << 20
"""Objects of twice this and more are sent in parts of this size: S3 refuses a single PUT above 5 GiB, and a part that
fails costs only itself to send again. At 10,000 parts S3 has its own end, at 640 GB."""
PARTS_AT_ONCE = 4


class S3Objects:
    """See `Objects` in `cluster.storage.objects`. Only requests of an upload in parts are retried here, by `retry`."""

    def __init__(self, filesystem: Any, root: str, retry: Retry, *, part_bytes: int = PART_BYTES) -> None:
        self._filesystem, self._retry = filesystem, retry
        self._bucket, _, prefix = root.rstrip("/").partition("/")
        self._prefix = prefix and f"{prefix}/"
        self._part_bytes = part_bytes

    def write(self, path: str, data: bytes) -> None:
        """One PUT; for a large object a multipart upload, which is completed as a whole or aborted."""
        if len(data) < 2 * self._part_bytes:
            self._call("put_object", Key=self._key(path), Body=data)
        else:
            self._write_in_parts(self._key(path), data)

    def write_new(self, path: str, data: bytes) -> None:
        """One conditional PUT (If-None-Match: *), never in parts: not every server looks at the condition then."""
        try:
            self._call("put_object", Key=self._key(path), Body=data, IfNoneMatch="*")
        except OSError as error:
            if http_status(error) == 412:  # s3fs knows AWS's wording of this answer, not that of other servers.
                raise FileExistsError(path) from error
            raise

    def read(self, path: str) -> bytes:
        """One GET."""
        return fetch(self._filesystem, f"{self._bucket}/{self._key(path)}")

    def size(self, path: str) -> int:
        """One HEAD."""
        return int(self._call("head_object", Key=self._key(path))["ContentLength"])

    def list(self, folder: str) -> Iterator[str]:
        """One request for a thousand objects, however many folders they lie in. The marks of folders are left out."""
        prefix = self._key(f"{folder}/" if folder else "")
        for item in pages(partial(self._call, "list_objects_v2", Prefix=prefix)):
            if not item["Key"].endswith("/"):
                yield item["Key"].removeprefix(self._prefix)

    def folders(self, folder: str) -> Iterator[str]:
        """One request for a thousand folders, however much lies in them."""
        prefix = self._key(f"{folder}/" if folder else "")
        for item in pages(partial(self._call, "list_objects_v2", Prefix=prefix, Delimiter="/"), of="CommonPrefixes"):
            yield item["Prefix"].removeprefix(self._prefix).rstrip("/")

    def delete(self, path: str) -> None:
        """One DELETE. S3 does not say whether there was such an object."""
        self._call("delete_object", Key=self._key(path))

    def check_access(self) -> None:
        """One listing of one object."""
        self._call("list_objects_v2", Prefix=self._prefix, MaxKeys=1)

    def remove_stale_files(self, folder: str, older_than_s: float) -> int:
        """Nothing: uploads that were begun are in no listing of objects, and a rule of the bucket removes them."""
        del folder, older_than_s
        return 0

    def _write_in_parts(self, key: str, data: bytes) -> None:
        """Not s3fs's way: one part that is refused would have all of them sent again, and abort beside the others."""
        upload = {"Key": key, "UploadId": self._call("create_multipart_upload", Key=key)["UploadId"]}

        def send(start: int) -> dict[str, Any]:
            number, part = 1 + start // self._part_bytes, data[start : start + self._part_bytes]
            return {
                "PartNumber": number,
                "ETag": self._again("upload_part", upload, PartNumber=number, Body=part)["ETag"],
            }

        try:
            with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="parts") as threads:
                parts = list(threads.map(send, range(0, len(data), self._part_bytes)))
            self._complete(upload, parts)
        except BaseException:
            with suppress(Exception):  # What led here says more than why there is no way back either.
                self._again("abort_multipart_upload", upload)
            raise

    def _complete(self, upload: Mapping[str, str], parts: Sequence[dict[str, Any]]) -> None:
        """The answer may be lost: who asks again is told that there is no such upload, and looks for the object."""
        try:
            self._again("complete_multipart_upload", upload, MultipartUpload={"Parts": parts})
        except FileNotFoundError:
            with suppress(FileNotFoundError):
                if self._retry.call(lambda: self._tag(upload["Key"]), is_transient=is_transient) == _whole_tag(parts):
                    return
            raise OSError(errno.EIO, "the upload in parts is gone") from None

    def _tag(self, key: str) -> str:
        return str(self._call("head_object", Key=key)["ETag"]).strip('"')

    def _again(self, method: str, upload: Mapping[str, str], **arguments: Any) -> dict[str, Any]:
        return self._retry.call(lambda: self._call(method, **upload, **arguments), is_transient=is_transient)

    def _key(self, path: str) -> str:
        return f"{self._prefix}{path}"

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._filesystem.call_s3(method, Bucket=self._bucket, **arguments)
        return answer


def _whole_tag(parts: Sequence[dict[str, Any]]) -> str | None:
    """The ETag of an object that was put together of parts; None where those of its parts are no hashes."""
    try:
        hashes = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in parts)
    except ValueError:
        return None
    return f"{hashlib.md5(hashes, usedforsecurity=False).hexdigest()}-{len(parts)}"


def pages(ask: Callable[..., dict[str, Any]], *, of: str = "Contents") -> Iterator[dict[str, Any]]:
    """What a listing says of each object, sorted by key, a page at a time.

    Args:
        ask: makes one request for a page, with further arguments that say where it begins.
        of: what is listed, in S3's words: the objects, or the CommonPrefixes of a listing with a delimiter.
    """
    more: dict[str, str] = {}
    while True:
        page = ask(**more)
        yield from page.get(of, [])
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}
