"""An HTTP proxy on loopback before an S3 server: it counts requests by kind, and injects faults by a plan.

It forwards requests unchanged, with the Host header, which signatures cover. Whether a request gets a fault depends on
the plan's seed, on the request and on its number of attempts, and not on concurrent requests.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

Fault = Literal["slow_down", "reset_before", "reset_after", "slow", "truncated"]

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_UPSTREAM_TIMEOUT_S = 120
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "expect", "transfer-encoding"})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The requests that get a fault. Shares are in [0, 1].

    Attributes:
        seed: of the draws.
        slow_down: share of requests refused with 503 SlowDown, without being forwarded.
        reset_before: share whose connection is reset before they are forwarded.
        reset_after: share whose connection is reset after the server has executed them.
        slow: share whose response is delayed by `delay_s`.
        truncated: share of GETs whose body ends half-way.
        delay_s: seconds.
        at_most: number of faults for the same request (method and path), so that it succeeds in the end.
        only: regular expression of the paths (with query) that get faults; None is for all.
    """

    seed: int = 0
    slow_down: float = 0.0
    reset_before: float = 0.0
    reset_after: float = 0.0
    slow: float = 0.0
    truncated: float = 0.0
    delay_s: float = 0.5
    at_most: int = 3
    only: str | None = None

    def fault(self, method: str, path: str, attempt: int) -> Fault | None:
        """Return the fault of the n-th attempt (from 0) of a request; None for no fault."""
        if attempt >= self.at_most or (self.only is not None and not re.search(self.only, path)):
            return None
        kinds: tuple[Fault, ...] = ("slow_down", "reset_before", "reset_after", "slow", "truncated")
        shares = (self.slow_down, self.reset_before, self.reset_after, self.slow, self.truncated)
        digest = hashlib.blake2b(f"{self.seed} {method} {path} {attempt}".encode(), digest_size=8).digest()
        drawn = int.from_bytes(digest) / 2**64
        fault = next((kind for kind, end in zip(kinds, accumulate(shares), strict=True) if drawn < end), None)
        return None if fault == "truncated" and method != "GET" else fault


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the proxy.

    Attributes:
        kind: "GET", "HEAD", "PUT", "DELETE" of an object, "LIST", or "PART", "UPLOAD", "COMPLETE", "ABORT" of a
            multipart upload; "BUCKET" for whatever else concerns a bucket.
        key: bucket and key; for a LIST bucket and prefix.
        status: of the server's response; None if the request was not forwarded.
        fault: that the request got.
    """

    kind: str
    key: str
    status: int | None
    fault: Fault | None


@dataclass
class Proxy:
    """A running proxy. Its plan may be replaced while it runs.

    Attributes:
        endpoint: its URL.
        plan: of the faults; None injects none.
        dropped_headers: headers that are not forwarded, in lower case, as if the server did not support them. Signed
            requests fail then.
        requests: all requests, in the order of the server's responses.
    """

    endpoint: str
    plan: Plan | None = None
    dropped_headers: frozenset[str] = frozenset()
    requests: list[Request] = field(default_factory=list)
    _attempts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self) -> Counter[str]:
        """Return the number of requests of each kind."""
        with self._lock:
            return Counter(request.kind for request in self.requests)

    def faults(self) -> Counter[str]:
        """Return the number of faults of each kind."""
        with self._lock:
            return Counter(request.fault for request in self.requests if request.fault is not None)

    def clear(self) -> None:
        """Remove the requests so far."""
        with self._lock:
            self.requests.clear()

    def draw(self, method: str, path: str) -> Fault | None:
        """Return the fault of the next attempt of this request; None for no fault."""
        with self._lock:
            attempt = self._attempts[method, path]
            self._attempts[method, path] += 1
        return None if self.plan is None else self.plan.fault(method, path, attempt)

    def add(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)


@contextmanager
def fault_proxy(upstream: str, plan: Plan | None = None) -> Iterator[Proxy]:
    """Run a proxy before a server.

    Args:
        upstream: the server's endpoint, http.
        plan: see `Proxy.plan`.
    """
    with _Server(urlsplit(upstream).netloc, plan) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.proxy
        finally:
            server.shutdown()
            thread.join()


def kind_of(method: str, path: str) -> tuple[str, str]:
    """Return kind and key of a request, see `Request`."""
    url = urlsplit(path)
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    bucket, _, key = unquote(url.path).lstrip("/").partition("/")
    if not key:
        listing = method == "GET" and ("list-type" in query or "prefix" in query)
        return ("LIST", f"{bucket}/{query.get('prefix', '')}") if listing else ("BUCKET", bucket)
    multipart = {
        ("POST", False): "UPLOAD",
        ("PUT", True): "PART",
        ("POST", True): "COMPLETE",
        ("DELETE", True): "ABORT",
    }
    return multipart.get((method, "uploadId" in query), method), f"{bucket}/{key}"


class _Response(NamedTuple):
    """The response of the server."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream: str, plan: Plan | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.proxy = Proxy(f"http://127.0.0.1:{self.server_address[1]}", plan)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that close their connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    upstream: http.client.HTTPConnection | None = None

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.proxy.draw(self.command, self.path)
        response = None
        try:
            if fault not in ("slow_down", "reset_before"):
                response = self._forward(body)
        finally:
            # Before the client has its response: it may count at once.
            status = None if response is None else response.status
            self.server.proxy.add(Request(*kind_of(self.command, self.path), status, fault))
        if response is None and fault == "slow_down":
            self._send(503, {"Content-Type": "application/xml"}, SLOW_DOWN)
        elif response is None or fault == "reset_after":
            self._reset()
        else:
            self._send_response(response, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_any  # noqa: N815

    def finish(self) -> None:
        if self.upstream is not None:
            self.upstream.close()
        super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing: the requests are in `Proxy.requests`."""

    def _forward(self, body: bytes) -> _Response:
        """Forward the request and return the response of the server."""
        if self.upstream is None:
            self.upstream = http.client.HTTPConnection(self.server.upstream, timeout=_UPSTREAM_TIMEOUT_S)
        dropped = _HOP_BY_HOP | self.server.proxy.dropped_headers
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        self.upstream.request(self.command, self.path, body=body, headers=headers)
        response = self.upstream.getresponse()
        kept = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP}
        return _Response(response.status, kept, response.read())

    def _send_response(self, response: _Response, fault: Fault | None) -> None:
        if fault == "slow":
            assert self.server.proxy.plan is not None
            time.sleep(self.server.proxy.plan.delay_s)
        is_cut = fault == "truncated" and len(response.body) > 1
        self._send(response.status, response.headers, response.body, is_cut=is_cut)

    def _send(self, status: int, headers: Mapping[str, str], data: bytes, *, is_cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        length = next((value for name, value in headers.items() if name.lower() == "content-length"), str(len(data)))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if is_cut else data)
        if is_cut:
            self.wfile.flush()
            self.close_connection = True

    def _reset(self) -> None:
        """Close at once, so that the client sees a reset and not an end."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
