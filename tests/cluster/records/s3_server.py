"""A tiny S3 server on loopback: listing in pages, HEAD and GET with ranges. Accepts any signature, or none."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from cluster import Storage

PAGE = 7  # The real one gives 1000 keys at a time.


class S3Server(ThreadingHTTPServer):
    """Objects of one bucket, the requests made: (method, path with query), and their Authorization headers.

    `faults` has, by key, the status and body of the response to any GET of it. Responses take `latency_s`.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything, so that tests can share a server."""
        self.objects: dict[str, bytes] = {}
        self.forbidden: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.authorizations: list[str] = []
        self.faults: dict[str, tuple[int, bytes]] = {}
        self.listed_tag: str | None = None
        self.latency_s = 0.0
        self.most_at_once = 0
        self._now = 0

    def wait(self) -> None:
        """Wait for the latency, and count the requests that wait at the same time."""
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        time.sleep(self.latency_s)
        with self._lock:
            self._now -= 1

    @property
    def storage(self) -> Storage:
        """How to come here."""
        host, port = self.server_address[:2]
        return Storage(endpoint=f"http://{host!s}:{port}", anonymous=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: S3Server

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _answer(self, *, with_body: bool) -> None:
        self.server.wait()
        url = urlsplit(self.path)
        self.server.requests.append((self.command, self.path))
        self.server.authorizations.append(self.headers.get("Authorization", ""))
        _, bucket, key = [*unquote(url.path).split("/", 2), ""][:3]
        if bucket != "bucket":
            self._send(404, _error("NoSuchBucket"), with_body=with_body)
        elif not key:
            self._send(200, self._page(parse_qs(url.query)), with_body=with_body)
        elif key in self.server.faults:
            status, body = self.server.faults[key]
            self._send(status, body, with_body=with_body)
        elif key in self.server.forbidden:
            self._send(403, _error("AccessDenied"), with_body=with_body)
        elif key not in self.server.objects:
            self._send(404, _error("NoSuchKey"), with_body=with_body)
        elif self.headers.get("If-Match", etag := f'"{_etag(self.server.objects[key])}"') != etag:
            self._send(412, _error("PreconditionFailed"), with_body=with_body)
        else:
            self._object(self.server.objects[key], with_body=with_body)

    def _object(self, data: bytes, *, with_body: bool) -> None:
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            data = data[int(found[1]) : int(found[2] or len(data)) + 1]
        self._send(206 if found else 200, data, with_body=with_body)

    def _page(self, query: dict[str, list[str]]) -> bytes:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        after = query.get("continuation-token", query.get("start-after", [""]))[0]
        count = min(PAGE, int(query.get("max-keys", [str(PAGE)])[0]))
        names = {_rolled_up(key, prefix, delimiter) for key in self.server.objects if key.startswith(prefix)}
        keys = sorted((name for name in names if name.encode() > after.encode()), key=str.encode)
        token = f"<NextContinuationToken>{escape(keys[count - 1])}</NextContinuationToken>" if keys[count:] else ""
        items = "".join(self._item(key, is_folder=bool(delimiter) and key.endswith("/")) for key in keys[:count])
        return (
            f"<ListBucketResult><Name>bucket</Name><EncodingType>url</EncodingType><KeyCount>{len(keys[:count])}"
            f"</KeyCount><IsTruncated>{str(bool(token)).lower()}</IsTruncated>{token}{items}</ListBucketResult>"
        ).encode()

    def _item(self, key: str, *, is_folder: bool) -> str:
        if is_folder:
            return f"<CommonPrefixes><Prefix>{quote(key)}</Prefix></CommonPrefixes>"
        return (
            f"<Contents><Key>{quote(key)}</Key><LastModified>2025-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{self.server.listed_tag or _etag(self.server.objects[key])}&quot;</ETag>"
            f"<Size>{len(self.server.objects[key])}</Size></Contents>"
        )

    def _send(self, status: int, body: bytes, *, with_body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{_etag(body)}"')
        self.send_header("Last-Modified", "Wed, 01 Jan 2025 00:00:00 GMT")
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _rolled_up(key: str, prefix: str, delimiter: str) -> str:
    """Return what a listing with a delimiter has for a key: a folder, or the key itself."""
    if not delimiter:
        return key
    name, found, _ = key[len(prefix) :].partition(delimiter)
    return prefix + name + found


def _etag(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A running server with one empty bucket, "bucket"."""
    with S3Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
