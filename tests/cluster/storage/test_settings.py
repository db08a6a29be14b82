"""The endpoint of a storage is checked: its URL, and the server that responds there."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cluster import Retry, Storage, StorageError, Store
from cluster.records.base import Skipped
from cluster.records.listing import walk
from cluster.records.location import Location

Respond = Callable[[int, str], tuple[int, dict[str, str], bytes] | None]
"""The response to the n-th request (from 0) of a path: status, headers and body; None closes the connection."""
LISTING = b"<ListBucketResult><Name>b</Name><MaxKeys>1</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
PAGE = {"Content-Type": "text/html; charset=utf-8"}
XML = {"Content-Type": "application/xml"}


@contextmanager
def server(respond: Respond) -> Iterator[str]:
    """Run a web server, and provide its URL."""
    counter = iter(range(10**6))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            response = respond(next(counter), self.path)
            if response is None:
                return
            status, headers, body = response
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def store(endpoint: str) -> Store:
    """A store that gives up on storage that is down after a while, so that a test shows whether it waits."""
    return Store("s3://bucket/run", storage=Storage(endpoint=endpoint, region="us-east-1"), retry=Retry(deadline_s=20))


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://h:port",
        "http:// h",
        "http://:9000",
        "http://h:99999",
        "ftp://h",
        "http://h/x",
        "http://h#token",
        "http://h;sig=x",
    ],
)
def test_an_invalid_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint: expected a URL such as https://host:9000"):
        Storage(endpoint=endpoint)


@pytest.mark.parametrize(
    "endpoint", ["http://me:hidden-1@h", "http://me:hid/den-1@h:9000", "http://hidden-1@h", "http://h/?sig=hidden-1"]
)
def test_a_refused_endpoint_is_not_quoted_with_its_secret(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint: ") as caught:
        Storage(endpoint=endpoint)
    assert "den-1" not in str(caught.value)


def test_a_server_without_http_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def respond() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"-ERR unknown command\r\n")

        thread = threading.Thread(target=respond)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(StorageError, match=f"no S3 server responds at {endpoint}: -ERR unknown command. Check"):
            Storage(endpoint=endpoint).check_endpoint()
        thread.join()


@pytest.mark.parametrize(
    ("respond", "message"),
    [
        (lambda _, path: (302, {"Location": path}, b""), "redirects without end"),
        (lambda count, _: (302, {"Location": f"/{count}"}, b""), "redirects without end"),
        (
            lambda _, path: (200, PAGE, b"<html>") if path == "/login" else (302, {"Location": "/login"}, b""),
            "web pages",
        ),
        (lambda *_: (200, PAGE, b"<!doctype html><p>Console"), "serves web pages"),
    ],
)
def test_an_endpoint_that_is_a_web_site_is_refused_at_once(respond: Respond, message: str) -> None:
    with server(respond) as endpoint, pytest.raises(StorageError, match=f"{endpoint} .*{message}.*Check the host and"):
        Storage(endpoint=endpoint).check_endpoint()


@pytest.mark.parametrize(
    "respond",
    [
        lambda *_: (302, {"Location": "https://127.0.0.1:9/s3/"}, b""),  # As AWS does, to a page about S3.
        lambda *_: (403, XML, b"<Error><Code>AccessDenied</Code></Error>"),
        lambda *_: (503, XML, b"<Error><Code>SlowDown</Code></Error>"),
        lambda count, _: None if count < 2 else (200, XML, LISTING),
    ],
)
def test_an_endpoint_that_may_be_s3_passes(respond: Respond) -> None:
    with server(respond) as endpoint:
        Storage(endpoint=endpoint).check_endpoint()


@pytest.mark.parametrize(
    "respond",
    [
        lambda *_: (200, PAGE, b"<!doctype html><p>Console"),
        lambda *_: (200, PAGE, b"<html><body>A page that is XML as well</body></html>"),
        lambda _, path: (302, {"Location": path}, b""),
        lambda _, path: (307, {"Location": path, **PAGE}, b"<html>"),
        lambda *_: (404, {}, b""),
    ],
)
def test_a_web_site_is_no_empty_bucket(respond: Respond) -> None:
    begin = time.monotonic()
    message = "could not reach s3://bucket/run: .*does not respond as an S3 server does.*check the host and port"
    with server(respond) as endpoint, pytest.raises(StorageError, match=message):
        store(endpoint).check_access()
    assert time.monotonic() - begin < 10


def test_a_page_that_is_xml_is_no_empty_listing() -> None:
    with server(lambda *_: (200, PAGE, b"<html><body/></html>")) as endpoint:
        for look in (Store.list, Store.folders):
            with pytest.raises(
                StorageError, match=r"could not list s3://bucket/run: .*does not respond as an S3 server"
            ):
                list(look(store(endpoint)))


def test_an_empty_response_is_no_empty_archive() -> None:
    with server(lambda *_: (200, XML, b"")) as endpoint:
        archive = Location("s3://bucket/photos", storage=Storage(endpoint=endpoint, region="us-east-1"))
        with pytest.raises(
            StorageError, match=r"cannot read the listing of bucket: .*does not respond as an S3 server"
        ):
            list(walk(archive, Skipped()))


def test_a_throttled_first_request_is_tried_again() -> None:
    def respond(count: int, _: str) -> tuple[int, dict[str, str], bytes]:
        return (503, XML, b"<Error><Code>SlowDown</Code></Error>") if count < 3 else (200, XML, LISTING)

    with server(respond) as endpoint:
        Store("s3://bucket/run", storage=Storage(endpoint=endpoint, region="us-east-1")).check_access()
