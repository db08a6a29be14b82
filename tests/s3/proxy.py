"""An HTTP proxy on loopback in front of an S3 server: it counts requests by kind, and injects faults on a plan.

It forwards everything unchanged, the Host header included, which signatures cover. Which request meets a fault depends
on the plan's seed, on the request and on how often it was made, and not on what happens beside it.
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
_UPSTREAM_S = 120
_FOR_ONE_HOP = frozenset({"connection", "keep-alive", "expect", "transfer-encoding"})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which requests meet a fault.

    Attributes:
        seed: of the draws.
        slow_down: share of requests refused with 503 SlowDown; the server does not hear of them.
        reset_before: share whose connection is reset before the server hears of them.
        reset_after: share whose connection is reset when the server has done what they ask.
        slow: share answered only after `delay_s`.
        truncated: share of GETs whose body ends half-way.
        delay_s: seconds.
        at_most: faults that the same request (method and path) meets, so that there is an end.
        only: regular expression of the paths (with query) that faults are for; None is for all.
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
        """What the n-th attempt (from 0) of a request meets."""
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
    """A request that was made.

    Attributes:
        kind: "GET", "HEAD", "PUT", "DELETE" of an object, "LIST", or "PART", "UPLOAD", "COMPLETE", "ABORT" of a
            multipart upload; "BUCKET" for whatever else concerns a bucket.
        key: bucket and key; for a LIST bucket and prefix.
        status: what the server answered; None if it was not asked.
        fault: what it met.
    """

    kind: str
    key: str
    status: int | None
    fault: Fault | None


@dataclass
class Proxy:
    """A running proxy. May be given another plan while it runs.

    Attributes:
        endpoint: its URL.
        plan: of the faults; None injects none.
        deaf_to: headers that are not passed on, in lower case, as if the server did not know them. Only what is not
            signed gets through then.
        requests: all that were made, in the order in which the server answered.
    """

    endpoint: str
    plan: Plan | None = None
    deaf_to: frozenset[str] = frozenset()
    requests: list[Request] = field(default_factory=list)
    _attempts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self) -> Counter[str]:
        """How many requests of each kind."""
        with self._lock:
            return Counter(request.kind for request in self.requests)

    def faults(self) -> Counter[str]:
        """How many faults of each kind."""
        with self._lock:
            return Counter(request.fault for request in self.requests if request.fault is not None)

    def clear(self) -> None:
        """Forget the requests so far."""
        with self._lock:
            self.requests.clear()

    def draw(self, method: str, path: str) -> Fault | None:
        """What this request meets."""
        with self._lock:
            attempt = self._attempts[method, path]
            self._attempts[method, path] += 1
        return None if self.plan is None else self.plan.fault(method, path, attempt)

    def add(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)


@contextmanager
def fault_proxy(upstream: str, plan: Plan | None = None) -> Iterator[Proxy]:
    """A proxy in front of a server.

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
    """Kind and key of a request, see `Request`."""
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


class _Answer(NamedTuple):
    """What the server said."""

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
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    upstream: http.client.HTTPConnection | None = None

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.proxy.draw(self.command, self.path)
        answer = None
        try:
            if fault not in ("slow_down", "reset_before"):
                answer = self._ask(body)
        finally:
            # Before the client has its answer: it may count at once.
            status = None if answer is None else answer.status
            self.server.proxy.add(Request(*kind_of(self.command, self.path), status, fault))
        if answer is None and fault == "slow_down":
            self._answer(503, {"Content-Type": "application/xml"}, SLOW_DOWN)
        elif answer is None or fault == "reset_after":
            self._reset()
        else:
            self._pass_on(answer, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_any  # noqa: N815

    def finish(self) -> None:
        if self.upstream is not None:
            self.upstream.close()
        super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """What happens is in `Proxy.requests`."""

    def _ask(self, body: bytes) -> _Answer:
        """What the server answers."""
        if self.upstream is None:
            self.upstream = http.client.HTTPConnection(self.server.upstream, timeout=_UPSTREAM_S)
        dropped = _FOR_ONE_HOP | self.server.proxy.deaf_to
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        self.upstream.request(self.command, self.path, body=body, headers=headers)
        answer = self.upstream.getresponse()
        messages = {name: value for name, value in answer.getheaders() if name.lower() not in _FOR_ONE_HOP}
        return _Answer(answer.status, messages, answer.read())

    def _pass_on(self, answer: _Answer, fault: Fault | None) -> None:
        if fault == "slow":
            assert self.server.proxy.plan is not None
            time.sleep(self.server.proxy.plan.delay_s)
        cut = fault == "truncated" and len(answer.body) > 1
        self._answer(answer.status, answer.headers, answer.body, cut=cut)

    def _answer(self, status: int, headers: Mapping[str, str], data: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        length = next((value for name, value in headers.items() if name.lower() == "content-length"), str(len(data)))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.wfile.flush()
            self.close_connection = True

    def _reset(self) -> None:
        """Close at once, so that the other side sees a reset and not an end."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
