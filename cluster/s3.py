"""Whole objects on S3, each operation the fewest requests that can do it.

s3fs is used for what it is good at: a client that threads share, signatures, errors as Python has them. Its own `info`,
`exists` and `ls` ask twice or folder by folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from cluster.filesystems import fetch
from cluster.trouble import http_status

PART_BYTES = 64 << 20
"""Objects of twice this and more are sent in parts of this size: S3 refuses a single PUT above 5 GiB, and a part that
fails costs only itself to send again. At 10,000 parts S3 has its own end, at 640 GB."""


class S3Objects:
    """See `cluster.objects.Objects`."""

    def __init__(self, filesystem: Any, root: str, *, part_bytes: int = PART_BYTES) -> None:
        self._filesystem = filesystem
        self._bucket, _, prefix = root.rstrip("/").partition("/")
        self._prefix = prefix and f"{prefix}/"
        self._part_bytes = part_bytes

    def write(self, path: str, data: bytes) -> None:
        """One PUT; for a large object a multipart upload, which is completed as a whole or aborted."""
        self._filesystem.pipe_file(f"{self._bucket}/{self._key(path)}", data, chunksize=self._part_bytes)

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

    def delete(self, path: str) -> None:
        """One DELETE. S3 does not say whether there was such an object."""
        self._call("delete_object", Key=self._key(path))

    def reach(self) -> None:
        """One listing of one object."""
        self._call("list_objects_v2", Prefix=self._prefix, MaxKeys=1)

    def _key(self, path: str) -> str:
        return f"{self._prefix}{path}"

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._filesystem.call_s3(method, Bucket=self._bucket, **arguments)
        return answer


def pages(ask: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What a flat listing says of each object, sorted by key, a page at a time.

    Args:
        ask: makes one request for a page, with further arguments that say where it begins.
    """
    more: dict[str, str] = {}
    while True:
        page = ask(**more)
        yield from page.get("Contents", [])
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}
