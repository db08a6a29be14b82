"""A minimal S3 server on loopback that responds after a given latency, in a process of its own.

It has ListObjectsV2, HEAD and GET with a range, checks no signature, and holds one bucket in memory. Its CPU time does
not count as that of the process that reads.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from cluster import Storage

BUCKET = "bench"
PAGE = 1000
PHOTOGRAPH = bytes(range(256)) * 272
"""Content of every synthetic object: 69,632 bytes, as many as a JPEG of 500 pixels may have."""
_END = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Content:
    """What a server holds.

    Attributes:
        folder: whose files are objects; None if there are none.
        photographs: synthetic objects below photographs/, or names of objects if they are only listed.
        folder_size: objects in each folder of them; 0 if they are in one.
    """

    folder: Path | None = None
    photographs: int = 0
    folder_size: int = 0

    def objects(self) -> dict[str, bytes]:
        """Return the content by key."""
        found = {f"photographs/{self._name(number)}": PHOTOGRAPH for number in range(self.photographs)}
        if self.folder is not None:
            found |= {
                path.relative_to(self.folder).as_posix(): path.read_bytes()
                for path in self.folder.rglob("*")
                if path.is_file()
            }
        return found

    def _name(self, number: int) -> str:
        name = f"{number:07}.jpg"
        return f"{number // self.folder_size:05}/{name}" if self.folder_size else name


@contextmanager
def object_server(content: Content, *, latency_s: float) -> Iterator[Storage]:
    """Run a server, and yield how it is reached.

    Args:
        content: of its only bucket, `BUCKET`.
        latency_s: seconds between a request and the first byte of its response.
    """
    settings = {"folder": content.folder and str(content.folder), "latency_s": latency_s}
    settings |= {"photographs": content.photographs, "folder_size": content.folder_size}
    command = [sys.executable, "-m", __name__, json.dumps(settings)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield Storage(endpoint=server.stdout.readline().strip(), anonymous=False, region="us-east-1")
        finally:
            server.terminate()


class _Bucket:
    """The objects of a bucket, and the responses to requests."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self._objects = objects
        self._keys = sorted(objects, key=str.encode)
        self._tags = {id(data): hashlib.md5(data).hexdigest() for data in objects.values()}

    def respond(self, target: str, headers: Mapping[str, str]) -> tuple[bytes, bytes]:
        """Return head and body of a response; the body is a part of the object, not a copy, if it is all of it."""
        url = urlsplit(target)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        if bucket != BUCKET:
            return _response(404, _error("NoSuchBucket"))
        if not key:
            return _response(200, self._page(dict(parse_qsl(url.query))), "Content-Type: application/xml\r\n")
        if key not in self._objects:
            return _response(404, _error("NoSuchKey"))
        data = self._objects[key]
        tag = f'ETag: "{self._tags[id(data)]}"\r\nLast-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n'
        if headers.get("if-match", tag[6:40]) != tag[6:40]:
            return _response(412, _error("PreconditionFailed"))
        status = 200
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", "")):
            start, stop = int(found[1]), min(int(found[2] or len(data)) + 1, len(data))
            tag += f"Content-Range: bytes {start}-{stop - 1}/{len(data)}\r\n"
            status, data = 206, data[start:stop]
        return _response(status, data, tag)

    def _page(self, query: Mapping[str, str]) -> bytes:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        position = self._first(prefix, query)
        items: list[str] = []
        after = ""
        most = min(PAGE, int(query.get("max-keys", PAGE)))
        while len(items) < most and position < len(self._keys) and self._keys[position].startswith(prefix):
            key = self._keys[position]
            folder, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            if found:
                name = prefix + folder + delimiter
                items.append(f"<CommonPrefixes><Prefix>{_quoted(name)}</Prefix></CommonPrefixes>")
                after, position = name + _END, bisect_right(self._keys, (name + _END).encode(), key=str.encode)
                continue
            items.append(self._item(key))
            after, position = key, position + 1
        is_cut = position < len(self._keys) and self._keys[position].startswith(prefix)
        token = f"<NextContinuationToken>{escape(quote(after))}</NextContinuationToken>" if is_cut else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><Prefix>{_quoted(prefix)}</Prefix><EncodingType>url</EncodingType>"
            f"<KeyCount>{len(items)}</KeyCount><MaxKeys>{most}</MaxKeys><IsTruncated>{str(is_cut).lower()}</IsTruncated>"
            f"{token}{''.join(items)}</ListBucketResult>"
        ).encode()

    @cache  # noqa: B019 (there is one bucket in the process)
    def _item(self, key: str) -> str:
        data = self._objects[key]
        return (
            f"<Contents><Key>{_quoted(key)}</Key><LastModified>2025-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{self._tags[id(data)]}&quot;</ETag><Size>{len(data)}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )

    def _first(self, prefix: str, query: Mapping[str, str]) -> int:
        """Return the position of the first key of a page."""
        after = unquote(query.get("continuation-token", "")) or query.get("start-after", "")
        start = bisect_left(self._keys, prefix.encode(), key=str.encode)
        return max(start, bisect_right(self._keys, after.encode(), key=str.encode) if after else 0)


def _quoted(key: str) -> str:
    return escape(quote(key))


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


def _response(status: int, body: bytes, headers: str = "Content-Type: application/xml\r\n") -> tuple[bytes, bytes]:
    return f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode(), body


class _Connection(asyncio.Protocol):
    """A connection; a client sends its next request when it has the response."""

    def __init__(self, bucket: _Bucket, latency_s: float) -> None:
        self._bucket, self._latency_s, self._received = bucket, latency_s, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        self._received = rest
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        asyncio.get_running_loop().call_later(self._latency_s, self._send, method, target, headers)

    def _send(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        head, body = self._bucket.respond(target, headers)
        self._transport.writelines((head, b"" if method == "HEAD" else body))


async def _serve(folder: str | None, latency_s: float, photographs: int, folder_size: int) -> None:
    bucket = _Bucket(Content(folder and Path(folder), photographs, folder_size).objects())
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(bucket, latency_s), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(**json.loads(sys.argv[1])))
