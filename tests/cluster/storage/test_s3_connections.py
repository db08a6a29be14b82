"""Connections to a server: kept while they work, replaced when they do not, with an error for each broken response."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import urllib3
from botocore import exceptions

from cluster.storage import s3_requests
from cluster.storage.error_classes import is_store_wide, is_transient
from cluster.storage.s3_requests import S3Requests, Target, _error_without_response
from tests.cluster.records.s3_server import s3_server

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: abc\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Script:
    """What a server does.

    Attributes:
        served: numbers of the connections that had requests.
        received: the requests.
        closed: set for each connection that the server has closed.
    """

    def __init__(self, connections: tuple[list[bytes], ...]) -> None:
        self.connections = connections
        self.served: list[int] = []
        self.received: list[bytes] = []
        self.closed = [threading.Event() for _ in connections]


@contextmanager
def scripted_server(*connections: list[bytes]) -> Iterator[tuple[S3Requests, Script]]:
    """Run a server whose n-th connection sends its responses, one for each request, and is closed then."""
    script = Script(connections)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            for number, responses in enumerate(connections):
                connected, _ = listener.accept()
                with connected:
                    for response in responses:
                        if not (received := connected.recv(1 << 16)):
                            break
                        script.served.append(number)
                        script.received.append(received)
                        connected.sendall(response)
                script.closed[number].set()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield requests_to(listener.getsockname()[1]), script
        thread.join(10)


def requests_to(port: int) -> S3Requests:
    return S3Requests(None, Target(f"http://127.0.0.1:{port}/bucket", None, "agent"), None)


@pytest.mark.parametrize(
    "response",
    [
        PLAIN,
        CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
@pytest.mark.parametrize(("most", "expected"), [(None, b"hello"), (9, b"hello"), (5, b"hello"), (3, b"hel")])
def test_a_body_is_read_as_it_was_stored(response, most, expected):
    with scripted_server([response]) as (requests, _):
        assert requests.get("a", max_bytes=most) == expected


def test_a_connection_takes_several_requests():
    with scripted_server([PLAIN] * 3) as (requests, script):
        assert [requests.get("a") for _ in range(3)] == [b"hello"] * 3
        assert script.served == [0, 0, 0]


def test_a_connection_that_the_server_has_closed_is_replaced():
    with scripted_server([PLAIN], [PLAIN]) as (requests, script):
        assert requests.get("a") == b"hello"
        assert script.closed[0].wait(10)
        assert requests.get("a") == b"hello"
        assert script.served == [0, 1]


@pytest.mark.parametrize("first", [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", PLAIN])
def test_a_connection_in_the_middle_of_a_response_is_not_used_again(first):
    with scripted_server([first], [PLAIN]) as (requests, script):
        assert requests.get("a", max_bytes=3) == b"hel"
        assert requests.get("a") == b"hello"
        assert script.served == [0, 1]


@pytest.mark.parametrize("most", [None, 100])
@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"5\r\nhello\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 no\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 17) + b"\r\n\r\n",
        CHUNKED + b"x\r\n",
    ],
)
def test_a_broken_response_is_an_error_that_may_pass(response, most):
    with scripted_server([response], [PLAIN]) as (requests, script):
        with pytest.raises(exceptions.ConnectionClosedError) as caught:
            requests.get("a", max_bytes=most)
        assert requests.get("a") == b"hello"
        assert script.served == [0, 1]
    assert is_transient(caught.value)


def test_a_slow_server_is_a_timeout(monkeypatch):
    monkeypatch.setattr(s3_requests, "READ_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(exceptions.ReadTimeoutError):
        requests_to(listener.getsockname()[1]).get("a")


def test_a_response_that_pauses_too_long_is_a_timeout(monkeypatch):
    monkeypatch.setattr(s3_requests, "READ_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        requests = requests_to(listener.getsockname()[1])
        with ThreadPoolExecutor(1) as thread:
            reading = thread.submit(requests.get, "a")
            with listener.accept()[0] as connected:
                connected.recv(1 << 16)
                connected.sendall(PLAIN[:-1])
                with pytest.raises(exceptions.ReadTimeoutError):
                    reading.result()


def test_a_redirect_is_not_followed():
    found = b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    with scripted_server([found]) as (requests, script), pytest.raises(OSError, match="Moved"):
        requests.get("a")
    assert script.served == [0]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (urllib3.exceptions.ConnectTimeoutError("slow"), exceptions.ConnectTimeoutError),
        (urllib3.exceptions.NewConnectionError(None, "refused"), exceptions.EndpointConnectionError),
        (urllib3.exceptions.LocationParseError("host"), exceptions.HTTPClientError),
    ],
)
def test_an_error_of_urllib3_becomes_that_of_botocore(error, kind):
    found = _error_without_response(error, "https://store.example/bucket/a")
    assert type(found) is kind
    assert is_transient(found)


@pytest.mark.parametrize(("response", "kind"), [(b"", exceptions.ConnectionClosedError), (PLAIN, exceptions.SSLError)])
def test_only_a_server_without_valid_tls_stops_a_job(response, kind):
    with scripted_server([response]) as (plain, _):
        url = plain._target.url.replace("http", "https")
        with pytest.raises(kind) as caught:
            S3Requests(None, Target(url, None, "agent"), ssl.create_default_context()).get("a")
    assert is_store_wide(caught.value) == (kind is exceptions.SSLError)


def test_a_broken_body_does_not_make_a_server_untrusted(monkeypatch):
    def read(*_):
        raise urllib3.exceptions.SSLError(ssl.SSLError("bad record mac"))

    monkeypatch.setattr(s3_requests, "_read", read)
    with scripted_server([PLAIN]) as (requests, _), pytest.raises(exceptions.ConnectionClosedError) as caught:
        requests.get("a")
    assert is_transient(caught.value)


def test_a_key_is_sent_byte_by_byte():
    with scripted_server([PLAIN]) as (requests, script):
        requests.get("/é +&?#%41//../~_.-;=\udcff")
    path = b"/bucket//%C3%A9%20%2B%26%3F%23%2541//../~_.-%3B%3D%ED%B3%BF"
    assert script.received[0].startswith(b"GET " + path + b" HTTP/1.1\r\n")
    assert b"\r\nuser-agent: agent\r\n" in script.received[0].lower()


def test_a_listing_is_requested_with_encoded_keys():
    with scripted_server([PLAIN]) as (requests, script):
        requests.list_page({"prefix": "é +"})
    target = b"/bucket?list-type=2&encoding-type=url&prefix=%C3%A9%20%2B"
    assert script.received[0].startswith(b"GET " + target + b" HTTP/1.1\r\n")


def test_idle_connections_are_probed_by_the_system():
    opened = scripted_server([PLAIN])
    with opened as (requests, _), requests._pool.urlopen("GET", "/", preload_content=False) as response:
        connected = response.connection.sock
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == s3_requests.PROBE_AFTER_S
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_all_threads_keep_their_connections(caplog):
    most = s3_requests.MAX_REQUESTS
    with s3_server() as server, caplog.at_level(logging.WARNING), ThreadPoolExecutor(most) as threads:
        server.objects["a"] = b"1"
        url = f"{server.storage.endpoint}/bucket"
        requests = S3Requests(None, Target(url, None, "agent"), None)
        assert list(threads.map(lambda _: requests.get("a"), range(4 * most))) == [b"1"] * 4 * most
        assert requests._pool.num_connections <= most
    assert caplog.records == []
