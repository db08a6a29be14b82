"""Connections to one HTTP/1.1 server that threads share: one request at a time on each, without a library's overhead.

A GET of a small object costs a fifth of what it costs with the usual clients, whose time goes into parsing headers as
mail, into pools of pools, and into event loops. Only what requests for objects need is here: no redirects, cookies,
proxies, compression or pipelining.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import BinaryIO, cast

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 30
"""Seconds to connect to a server, and between two pieces of its response."""
IDLE_S = 20.0
"""Seconds after which a connection is not used again: servers close idle ones without a word."""

_BUFFER_BYTES = 1 << 16
_MAX_LINE_BYTES = 1 << 16
_MAX_HEADERS = 200


class ConnectError(OSError):
    """No connection could be made. The cause is that of the system or of TLS."""


class ClosedError(OSError):
    """A connection ended before its response did."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response of a server.

    Attributes:
        status: its HTTP status.
        headers: by name in lower case; of a repeated one, the last.
        body: as it was sent, without the framing of chunks; at most as long as was requested.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connections:
    """Connections to a server, opened as they are needed.

    Args:
        host: name or address.
        port: of the server.
        context: of TLS; None for plain HTTP.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        self._host, self._port, self._context = host, port, context
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()

    def exchange(self, head: bytes, *, max_bytes: int | None = None) -> Response:
        """Send a request without a body, and return its response.

        A connection that was open before may have been closed by the server meanwhile. So a request that gets no byte
        of a response is sent again, once, on a new connection.

        Args:
            head: request line and headers, with the blank line at their end.
            max_bytes: of the body that are read; None reads all of it.

        Raises:
            ConnectError: no connection.
            ClosedError: the connection ended too early.
            TimeoutError: the server did not respond in time.
            HTTPException: the response is not HTTP.
        """
        while (connection := self._take()) is not None:
            try:
                return self._exchange(connection, head, max_bytes)
            except _NoResponseError:
                continue
        try:
            return self._exchange(self._connect(), head, max_bytes)
        except _NoResponseError as error:
            raise ClosedError(*error.args) from error

    def _exchange(self, connection: _Connection, head: bytes, max_bytes: int | None) -> Response:
        try:
            response = connection.exchange(head, max_bytes)
        except BaseException:
            connection.close()
            raise
        if connection.is_reusable:
            with self._lock:
                self._idle.append(connection)
        else:
            connection.close()
        return response

    def _take(self) -> _Connection | None:
        """Return the connection that was used last, which is the least likely to be closed; None if there is none."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
            if connection is None or not connection.is_stale:
                return connection
            stale, self._idle = [connection, *self._idle], []
        for each in stale:
            each.close()
        return None

    def _connect(self) -> _Connection:
        try:
            plain = socket.create_connection((self._host, self._port), CONNECT_TIMEOUT_S)
        except OSError as error:
            raise ConnectError(*error.args) from error
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secure = plain if self._context is None else self._context.wrap_socket(plain, server_hostname=self._host)
        except OSError as error:
            plain.close()
            raise ConnectError(*error.args) from error
        secure.settimeout(READ_TIMEOUT_S)
        return _Connection(secure)


class _NoResponseError(OSError):
    """The connection ended before the first byte of a response."""


class _Connection:
    """A connection.

    Attributes:
        is_reusable: whether it can take another request after the last one.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._file = cast("BinaryIO", connected.makefile("rb", _BUFFER_BYTES))
        self._used_at = time.monotonic()
        self.is_reusable = True

    @property
    def is_stale(self) -> bool:
        """Whether it was not used for so long that the server may have closed it."""
        return time.monotonic() - self._used_at > IDLE_S

    def exchange(self, head: bytes, max_bytes: int | None) -> Response:
        """See `Connections.exchange`."""
        line = self._send(head)
        try:
            version, status = _parse_status(line)
            headers = _read_headers(self._file)
            while 100 <= status < 200:  # Informational; the response itself follows.
                version, status = _parse_status(_read_line(self._file))
                headers = _read_headers(self._file)
            body, is_whole = _read_body(self._file, status, headers, max_bytes)
        except (ConnectionError, ssl.SSLError) as error:
            raise ClosedError(*error.args) from error
        is_kept = version == b"HTTP/1.1" and headers.get("connection", "").lower() != "close"
        self.is_reusable = is_whole and is_kept
        self._used_at = time.monotonic()
        return Response(status, headers, body)

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def _send(self, head: bytes) -> bytes:
        """Send a request and return the first line of the response."""
        try:
            self._socket.sendall(head)
            line = self._file.readline(_MAX_LINE_BYTES)
        except (ConnectionError, ssl.SSLError) as error:
            raise _NoResponseError(*error.args) from error
        if not line:
            raise _NoResponseError("the server closed the connection without a response")
        return line


def _parse_status(line: bytes) -> tuple[bytes, int]:
    version, _, rest = line.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise HTTPException("the response is not HTTP")
    return version, int(rest[:3])


def _read_headers(file: BinaryIO) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(_MAX_HEADERS):
        line = _read_line(file)
        if line in (b"\r\n", b"\n"):
            return headers
        name, _, value = line.partition(b":")
        headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
    raise HTTPException(f"more than {_MAX_HEADERS} headers in a response")


def _read_line(file: BinaryIO) -> bytes:
    line = file.readline(_MAX_LINE_BYTES)
    if not line.endswith(b"\n"):
        if len(line) == _MAX_LINE_BYTES:
            raise HTTPException(f"a line of more than {_MAX_LINE_BYTES} bytes in the head of a response")
        raise ClosedError("the response ends in its head")
    return line


def _read_body(file: BinaryIO, status: int, headers: Mapping[str, str], max_bytes: int | None) -> tuple[bytes, bool]:
    """Return the body, at most `max_bytes` of it, and whether the connection is at the end of the response."""
    if status in (204, 304):
        return b"", True
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return _read_chunks(file, max_bytes)
    if (length := headers.get("content-length")) is None:
        return file.read(-1 if max_bytes is None else max_bytes), False
    if not length.isdecimal():
        raise HTTPException("the response has no valid length")
    wanted = int(length) if max_bytes is None else min(int(length), max_bytes)
    return _read_exactly(file, wanted), wanted == int(length)


def _read_chunks(file: BinaryIO, max_bytes: int | None) -> tuple[bytes, bool]:
    chunks: list[bytes] = []
    left = max_bytes
    while size := _parse_chunk_size(_read_line(file)):
        wanted = size if left is None else min(size, left)
        chunks.append(_read_exactly(file, wanted))
        if left is not None and (left := left - wanted) == 0:
            return b"".join(chunks), False
        _read_line(file)
    _read_headers(file)  # Trailers, and the blank line.
    return b"".join(chunks), True


def _parse_chunk_size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        raise HTTPException("a chunk of a response has no valid size") from None


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ClosedError(f"the response ends after {len(data)} of {size} bytes")
    return data
