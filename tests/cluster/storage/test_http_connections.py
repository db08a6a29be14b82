from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

import pytest

from cluster.storage import http_connections
from cluster.storage.http_connections import ClosedError, ConnectError, Connections

HEAD = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: abc\r\n\r\nhello"


@contextmanager
def scripted_server(*connections: list[bytes]) -> Iterator[tuple[Connections, list[int]]]:
    """Run a server whose n-th connection sends its responses, one for each request, and is closed then."""
    served: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            for number, responses in enumerate(connections):
                connected, _ = listener.accept()
                with connected:
                    for response in responses:
                        if not connected.recv(1 << 16):
                            return
                        served.append(number)
                        connected.sendall(response)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        host, port = listener.getsockname()
        yield Connections(host, port, None), served
        thread.join(10)


def body(response: bytes, **options: int) -> bytes:
    with scripted_server([response]) as (connections, _):
        return connections.exchange(HEAD, **options).body


@pytest.mark.parametrize(
    "response",
    [
        PLAIN,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN,
        b"HTTP/1.1 200\r\ncontent-length:5\r\n\r\nhello",
    ],
)
def test_a_body_is_read_however_it_is_framed(response):
    assert body(response) == b"hello"
    assert body(response, max_bytes=3) == b"hel"


def test_headers_are_found_by_names_in_lower_case():
    with scripted_server([PLAIN]) as (connections, _):
        response = connections.exchange(HEAD)
    assert (response.status, response.headers) == (200, {"content-length": "5", "etag": "abc"})


def test_a_connection_takes_several_requests():
    with scripted_server([PLAIN] * 3) as (connections, served):
        assert [connections.exchange(HEAD).body for _ in range(3)] == [b"hello"] * 3
        assert served == [0, 0, 0]


def test_a_request_on_a_closed_connection_is_sent_again():
    with scripted_server([PLAIN], [PLAIN]) as (connections, served):
        assert connections.exchange(HEAD).body == b"hello"
        assert connections.exchange(HEAD).body == b"hello"
        assert served == [0, 1]


@pytest.mark.parametrize("first", [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", PLAIN])
def test_a_connection_in_the_middle_of_a_response_is_not_used_again(first):
    with scripted_server([first], [PLAIN]) as (connections, served):
        assert connections.exchange(HEAD, max_bytes=3).body == b"hel"
        assert connections.exchange(HEAD).body == b"hello"
        assert served == [0, 1]


def test_an_idle_connection_is_not_used_again(monkeypatch):
    monkeypatch.setattr(http_connections, "IDLE_S", 0.0)
    with scripted_server([PLAIN], [PLAIN]) as (connections, served):
        assert [connections.exchange(HEAD).body for _ in range(2)] == [b"hello"] * 2
        assert served == [0, 1]


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
def test_a_response_that_ends_early_is_an_error(response):
    with pytest.raises(ClosedError):
        body(response)


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 no\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 17) + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 1000 + b"\r\n",
    ],
)
def test_what_is_not_http_is_an_error(response):
    with pytest.raises(HTTPException):
        body(response)


def test_an_error_leaves_no_connection_to_use():
    with scripted_server([b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"], [PLAIN]) as (connections, _):
        with pytest.raises(ClosedError):
            connections.exchange(HEAD)
        assert connections.exchange(HEAD).body == b"hello"


def test_a_slow_server_is_a_timeout(monkeypatch):
    monkeypatch.setattr(http_connections, "READ_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(TimeoutError):
        Connections(*listener.getsockname(), None).exchange(HEAD)


def test_no_server_is_an_error():
    with pytest.raises(ConnectError) as caught:
        Connections("127.0.0.1", 9, None).exchange(HEAD)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
