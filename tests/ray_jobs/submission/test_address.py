"""Wrong addresses and tokens are reported with what was expected."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ray_jobs.errors import JobError
from ray_jobs.submission.address import dashboard_url, fetch_ray_version

VERSION = '{"version": "4", "ray_version": "2.60.0"}'


@contextmanager
def answering(body: str, *, token: str | None = None) -> Iterator[str]:
    """Run a server with this body for requests with the token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            given = self.headers.get("Authorization")
            status = 200 if token is None or given == f"Bearer {token}" else 403 if given else 401
            self.send_response(status if self.path == "/api/version" else 404)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("given", "environment", "address"),
    [
        ("http://head:8265/", {"RAY_ADDRESS": "http://other:1"}, "http://head:8265"),
        (None, {"RAY_ADDRESS": "https://head"}, "https://head"),
        (None, {"RAY_ADDRESS": "http://a:1", "RAY_API_SERVER_ADDRESS": "http://b:1"}, "http://b:1"),
        (None, {"RAY_ADDRESS": "http://a:1", "RAY_API_SERVER_ADDRESS": "auto"}, "http://a:1"),
    ],
)
def test_the_address_comes_from_the_option_or_the_environment(given, environment, address):
    assert dashboard_url(given, environment) == address


@pytest.mark.parametrize(
    ("given", "environment"),
    [
        (None, {}),
        (None, {"RAY_ADDRESS": "auto"}),
        ("auto", {}),
        ("head:8265", {}),
        ("ray://head:10001", {}),
        ("http://", {}),
    ],
)
def test_other_addresses_are_refused_with_an_example(given, environment):
    with pytest.raises(JobError, match="--address http://head:8265"):
        dashboard_url(given, environment)


def test_a_password_in_the_address_is_refused_and_not_quoted():
    with pytest.raises(JobError) as caught:
        dashboard_url("http://me:word@head:8265", {})
    assert "RAY_AUTH_TOKEN" in str(caught.value)
    assert "word@" not in str(caught.value)


def test_the_version_of_the_cluster_is_returned():
    with answering(VERSION) as address:
        assert fetch_ray_version(address, {}) == "2.60.0"


def test_the_token_is_found_where_ray_finds_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("abc\n")
    (tmp_path / "other").write_text("def")
    mode = {"RAY_AUTH_MODE": "token"}
    with answering(VERSION, token="abc") as address:
        fetch_ray_version(address, mode)
        fetch_ray_version(address, mode | {"RAY_AUTH_TOKEN": "abc", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "other")})
        with pytest.raises(JobError, match=r"refuses the token.*ray get-auth-token"):
            fetch_ray_version(address, mode | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "other")})
        with pytest.raises(JobError, match=r"requires a token. Set RAY_AUTH_MODE=token here"):
            fetch_ray_version(address, {"RAY_AUTH_TOKEN": "abc"})


@pytest.mark.parametrize("body", ["<html>hello</html>", "[]", "{}", "3"])
def test_a_server_that_is_no_dashboard_is_refused(body):
    with answering(body) as address, pytest.raises(JobError, match=r"the server at .* is not a Ray dashboard"):
        fetch_ray_version(address, {})


def test_a_server_without_the_page_is_refused():
    with answering(VERSION) as address, pytest.raises(JobError, match=r"is not a Ray dashboard \(HTTP status 404\)"):
        fetch_ray_version(f"{address}/elsewhere", {})


def test_no_response_is_reported_with_the_reason():
    with pytest.raises(JobError, match=r"no response from http://127.0.0.1:1 .*refused"):
        fetch_ray_version("http://127.0.0.1:1", {})
