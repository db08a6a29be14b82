"""Requests of our own are those of s3fs: the same places, credentials, errors. Whatever s3fs raises is the standard."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.httpsession import get_cert_path

from cluster import Storage
from cluster.errors import ChangedError
from cluster.storage import filesystems, s3_requests
from cluster.storage.error_classes import http_status, is_store_wide, is_throttled, is_transient, summary
from cluster.storage.filesystems import _get_by_s3fs, fetch, open_filesystem
from cluster.storage.s3_listing import request_page
from cluster.storage.s3_requests import _tls_context, discard_requests, s3_code
from tests.cluster.records.s3_server import PAGE, s3_server

SECRET = "not-to-be-shown-anywhere"


@pytest.fixture(scope="module")
def running_server():
    with s3_server() as server:
        yield server


@pytest.fixture
def server(running_server):
    running_server.reset()
    return running_server


@pytest.fixture
def fresh(monkeypatch):
    """File systems of this test alone, which read its environment."""
    monkeypatch.setattr(filesystems, "_open", {})
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    return monkeypatch


def signing(server) -> Storage:
    return Storage(endpoint=server.storage.endpoint, region="us-east-1")


def outcome(call):
    """Return what is known of an error, or the result."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 (whatever it is, it is compared)
        kinds = (is_transient(error), is_store_wide(error), is_throttled(error))
        message = summary(error).replace(" (reached max retries: 0)", "")
        return (type(error), s3_code(error), http_status(error), kinds, message)


def xml(code: str, message: str = "some text") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


FAULTS = [
    (404, xml("NoSuchKey")),
    (404, xml("NoSuchBucket")),
    (404, b""),
    (403, xml("AccessDenied")),
    (403, xml("SignatureDoesNotMatch")),
    (403, xml("InvalidAccessKeyId")),
    (403, xml("RequestTimeTooSkewed")),
    (400, xml("ExpiredToken")),
    (400, xml("InvalidBucketName")),
    (401, b"<html>Sign in</html>"),
    (403, b"<html><body>Forbidden</body></html>"),
    (412, xml("PreconditionFailed")),
    (416, xml("InvalidRange")),
    (429, xml("TooManyRequests")),
    (500, xml("InternalError")),
    (503, xml("SlowDown", "Please reduce your request rate.")),
    (503, b"<html>Service unavailable</html>"),
    (500, b"\n <html><Code>none</Code></html>"),
    (501, xml("NotImplemented")),
]


@pytest.mark.parametrize(("status", "body"), FAULTS, ids=[f"{status}-{body[30:60]!r}" for status, body in FAULTS])
def test_a_refused_request_raises_what_s3fs_raises(server, status, body):
    server.faults["a"] = (status, body)
    filesystem, _ = open_filesystem("s3://bucket", server.storage)
    ours = outcome(lambda: s3_requests.s3_requests(filesystem, "bucket").get("a"))
    assert isinstance(ours, tuple)
    assert ours == outcome(lambda: _get_by_s3fs(filesystem, "bucket", "a", {}))
    assert len(server.requests) == 2


@pytest.mark.parametrize(("status", "code"), [(400, "ExpiredToken"), (400, "AuthorizationHeaderMalformed")])
def test_an_error_is_read_whole_however_few_bytes_are_wanted(server, status, code):
    server.faults["a"] = (status, xml(code))
    filesystem, _ = open_filesystem("s3://bucket", server.storage)
    with pytest.raises(OSError, match="some text") as caught:
        fetch(filesystem, "bucket/a", end=8)
    assert s3_code(caught.value) == code


def test_the_first_bytes_of_an_empty_object_are_none(server):
    server.faults["a"] = (416, xml("InvalidRange"))
    filesystem, _ = open_filesystem("s3://bucket", server.storage)
    assert fetch(filesystem, "bucket/a", end=8) == b""


@pytest.mark.parametrize("bucket", ["bucket", "missing-bucket"])
def test_a_listing_is_refused_as_by_s3fs(server, bucket):
    server.objects["a b"] = b"1"
    filesystem, _ = open_filesystem(f"s3://{bucket}", server.storage)
    ours = outcome(lambda: [item.key for item in request_page(filesystem, bucket, prefix="").objects])
    page = outcome(lambda: filesystem.call_s3("list_objects_v2", Bucket=bucket))
    assert ours == (page if isinstance(page, tuple) else [item["Key"] for item in page["Contents"]])


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_a_server_that_is_down_raises_what_s3fs_raises():
    nowhere = Storage(endpoint=f"http://127.0.0.1:{closed_port()}", anonymous=True)
    filesystem, _ = open_filesystem("s3://bucket", nowhere)
    ours = outcome(lambda: fetch(filesystem, "bucket/a b"))
    assert ours == outcome(lambda: _get_by_s3fs(filesystem, "bucket", "a b", {}))
    assert ours[0].__name__ == "EndpointConnectionError"


@contextmanager
def closing_server(response: bytes):
    """A server that sends these bytes to each request and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connected, _ = listener.accept()
                except OSError:
                    return
                with connected:
                    connected.recv(1 << 16)
                    connected.sendall(response)

        threading.Thread(target=serve, daemon=True).start()
        yield Storage(endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}", anonymous=True)
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (b"", "ConnectionClosedError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "ConnectionClosedError"),
        (b"220 mail.example ESMTP\r\n", "ConnectionClosedError"),
    ],
)
def test_a_broken_response_is_transient(response, kind):
    with closing_server(response) as storage:
        filesystem, _ = open_filesystem("s3://bucket", storage)
        name, *_, (is_passing, *_), _ = outcome(lambda: fetch(filesystem, "bucket/a"))
    assert (name.__name__, is_passing) == (kind, True)


def test_a_redirect_is_followed_by_s3fs_and_found_out_anew(server, monkeypatch):
    server.objects["a"] = b"1"
    filesystem, _ = open_filesystem("s3://bucket", server.storage)
    requests = s3_requests.s3_requests(filesystem, "bucket")
    server.faults["a"] = (301, xml("PermanentRedirect"))
    followed = []

    def by_s3fs(*arguments):
        followed.append(arguments)
        return b"there"

    monkeypatch.setattr(filesystems, "_get_by_s3fs", by_s3fs)
    assert fetch(filesystem, "bucket/a") == b"there"
    assert len(followed) == 1
    assert s3_requests.s3_requests(filesystem, "bucket") is not requests


@pytest.mark.parametrize("query", [{"most": 3}, {"delimiter": "/"}, {}, {"most": 9}])
def test_a_listing_that_is_redirected_is_followed_by_s3fs(server, monkeypatch, query):
    server.objects |= {f"a/{number} b": b"1" for number in range(9)} | {"a/c/d": b"2", "e/f": b"3"}
    filesystem, _ = open_filesystem("s3://bucket", server.storage)
    requests = s3_requests.s3_requests(filesystem, "bucket")
    expected = request_page(filesystem, "bucket", prefix="a/", **query)
    assert len(expected.objects) == min(query.get("most", PAGE), PAGE)

    def moved(_):
        error = OSError("moved")
        error.response = {"Error": {"Code": "PermanentRedirect"}}
        raise error

    monkeypatch.setattr(requests, "list_page", moved)
    found = request_page(filesystem, "bucket", prefix="a/", **query)
    assert (list(found.objects), found.folders, found.token) == (
        list(expected.objects),
        expected.folders,
        expected.token,
    )
    assert s3_requests.s3_requests(filesystem, "bucket") is not requests


def test_a_wrong_region_raises_what_s3fs_raises(server):
    server.faults["a"] = (400, xml("AuthorizationHeaderMalformed"))
    filesystem, _ = open_filesystem("s3://bucket", server.storage)
    with pytest.raises(OSError, match="some text") as caught:
        fetch(filesystem, "bucket/a")
    assert is_store_wide(caught.value)


def test_requests_are_signed_with_the_credentials_of_the_environment(server, fresh):
    fresh.setenv("AWS_ACCESS_KEY_ID", "from-environment")
    fresh.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    fresh.setenv("AWS_SESSION_TOKEN", "token")
    read_signed(server, access="from-environment")


def read_signed(server, *, access: str) -> None:
    server.objects["a"] = b"1"
    filesystem, _ = open_filesystem("s3://bucket", signing(server))
    assert fetch(filesystem, "bucket/a") == b"1"
    assert [item.key for item in request_page(filesystem, "bucket", prefix="").objects] == ["a"]
    assert len(server.authorizations) == 2
    for sent in server.authorizations:
        assert sent.startswith(f"AWS4-HMAC-SHA256 Credential={access}/")
        assert "/us-east-1/s3/aws4_request" in sent


def test_requests_are_signed_with_the_credentials_of_a_profile(server, fresh, tmp_path):
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = wrong\naws_secret_access_key = x\n"
        f"[work]\naws_access_key_id = from-profile\naws_secret_access_key = {SECRET}\n"
    )
    fresh.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    fresh.setenv("AWS_PROFILE", "work")
    read_signed(server, access="from-profile")


@contextmanager
def container_role():
    """The endpoint that gives a container its credentials: others at each request, valid for a few minutes."""
    given: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given.append(f"role-{len(given)}")
            expires = datetime.now(UTC) + timedelta(minutes=5)
            values = {"AccessKeyId": given[-1], "SecretAccessKey": SECRET, "Token": "t"}
            data = json.dumps(values | {"Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as role:
        threading.Thread(target=role.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{role.server_address[1]}/", given
        role.shutdown()


def test_credentials_of_a_role_are_renewed(server, fresh):
    server.objects["a"] = b"1"
    fresh.setattr(s3_requests, "KEY_LIFETIME_S", 0.0)
    with container_role() as (url, given):
        fresh.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        filesystem, _ = open_filesystem("s3://bucket", signing(server))
        for _ in range(3):
            assert fetch(filesystem, "bucket/a") == b"1"
    used = {sent.partition("Credential=")[2].partition("/")[0] for sent in server.authorizations}
    assert len(given) > 1
    assert given[-1] in used


def test_missing_credentials_raise_what_s3fs_raises(server, fresh):
    filesystem, _ = open_filesystem("s3://bucket", signing(server))
    ours = outcome(lambda: fetch(filesystem, "bucket/a"))
    assert ours[0].__name__ == "NoCredentialsError"
    assert ours == outcome(lambda: _get_by_s3fs(filesystem, "bucket", "a", {}))


def test_anonymous_requests_have_no_signature(server):
    server.objects["a"] = b"1"
    filesystem, _ = open_filesystem("s3://bucket", server.storage)
    assert fetch(filesystem, "bucket/a") == b"1"
    assert server.authorizations == [""]


@pytest.mark.parametrize(
    ("storage", "url"),
    [
        (Storage(region="eu-central-1"), "https://my-bucket.s3.eu-central-1.amazonaws.com"),
        (Storage(region="eu-central-1", path_style=True), "https://s3.eu-central-1.amazonaws.com/my-bucket"),
        (Storage(endpoint="http://127.0.0.1:9000"), "http://127.0.0.1:9000/my-bucket"),
        (Storage(endpoint="http://store.example:9000", path_style=False), "http://my-bucket.store.example:9000"),
        (Storage(endpoint="https://store.example", path_style=True), "https://store.example/my-bucket"),
    ],
)
def test_a_bucket_is_where_s3fs_has_it(storage, url, fresh):
    fresh.setenv("AWS_ACCESS_KEY_ID", "a")
    fresh.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    filesystem, _ = open_filesystem("s3://my-bucket", storage)
    target = s3_requests.s3_requests(filesystem, "my-bucket")._target
    assert (target.url, target.region) == (url, storage.region or "us-east-1")


def test_a_proxy_is_left_to_s3fs(server, fresh):
    fresh.setenv("HTTP_PROXY", server.storage.endpoint)
    fresh.setenv("NO_PROXY", "")
    fresh.setenv("no_proxy", "")
    filesystem, _ = open_filesystem("s3://bucket", Storage(endpoint="http://store.example", anonymous=True))
    assert s3_requests.s3_requests(filesystem, "bucket") is None


@pytest.mark.parametrize(
    "signature",
    [
        "AWS4-ECDSA-P256-SHA256 Credential=access/20250101/s3/aws4_request, SignedHeaders=host, Signature=0a",
        "AWS4-HMAC-SHA256 Credential=access/20250101/us-east-1/s3express/aws4_request, SignedHeaders=host",
        "AWS access:0a=",
    ],
)
def test_signatures_of_another_kind_are_left_to_s3fs(signature):
    request = SimpleNamespace(url="https://store.example/bucket/a", headers={"Authorization": signature})
    assert s3_requests._target_of(request, "a") is None


@pytest.mark.parametrize("name", ["req_kw", "s3_additional_kwargs"])
def test_more_arguments_of_requests_are_left_to_s3fs(server, fresh, name):
    """They may come from the configuration of fsspec."""
    filesystem, _ = open_filesystem("s3://bucket", server.storage)
    fresh.setattr(filesystem, name, {"RequestPayer": "requester"})
    assert s3_requests.s3_requests(filesystem, "bucket") is None


def test_the_certificates_of_a_job_come_before_those_of_the_environment(tmp_path):
    bundle = Path(get_cert_path(True)).read_text(encoding="utf-8")
    ends = "-----END CERTIFICATE-----"
    for name, certificate in zip("ab", bundle.split(ends), strict=False):
        (tmp_path / name).write_text(certificate + ends)
    a, b = str(tmp_path / "a"), str(tmp_path / "b")

    def trusted(of_job, of_environment):
        session = SimpleNamespace(get_config_variable=lambda _: of_environment)
        return _tls_context(SimpleNamespace(client_kwargs={"verify": of_job}, session=session)).get_ca_certs()

    assert trusted(a, b) == trusted(a, None) == trusted(None, a)
    assert trusted(a, b) != trusted(None, b)
    assert len(trusted(None, None)) == bundle.count(ends) > len(trusted(None, b)) == 1


def test_no_error_shows_a_secret(server, fresh):
    fresh.setenv("AWS_ACCESS_KEY_ID", "access")
    fresh.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    fresh.setenv("AWS_SESSION_TOKEN", SECRET)
    filesystem, _ = open_filesystem("s3://bucket", signing(server))
    server.faults["a"] = (403, xml("SignatureDoesNotMatch"))
    with pytest.raises(PermissionError) as caught:
        fetch(filesystem, "bucket/a")
    error = caught.value
    while error is not None:
        assert SECRET not in repr(error)
        error = error.__cause__ or error.__context__
    assert SECRET not in repr(s3_requests.s3_requests(filesystem, "bucket")._signer)


def test_one_client_serves_many_threads(server):
    server.objects |= {f"{number}": b"%d" % number for number in range(100)}
    filesystem, _ = open_filesystem("s3://bucket", server.storage)
    discard_requests(filesystem, "bucket")
    with ThreadPoolExecutor(16) as threads:
        clients = set(threads.map(lambda _: s3_requests.s3_requests(filesystem, "bucket"), range(50)))
        found = list(threads.map(lambda number: fetch(filesystem, f"bucket/{number}"), range(100)))
    assert len(clients) == 1
    assert found == [b"%d" % number for number in range(100)]


def test_an_object_larger_than_wanted_is_cut(server):
    server.objects["a"] = b"0123456789"
    filesystem, _ = open_filesystem("s3://bucket", server.storage)
    assert fetch(filesystem, "bucket/a", start=2, end=5) == b"234"
    assert fetch(filesystem, "bucket/a", end=100) == b"0123456789"
    assert fetch(filesystem, "bucket/a", start=8) == b"89"


def test_another_part_than_was_requested_is_not_taken():
    head = b"HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3"
    with closing_server(head + b"\r\n\r\n234") as storage:
        filesystem, _ = open_filesystem("s3://bucket", storage)
        assert fetch(filesystem, "bucket/a", start=2, end=5) == b"234"
        with pytest.raises(OSError, match="another part") as caught:
            fetch(filesystem, "bucket/a", start=5, end=8)
    assert is_transient(caught.value)


def test_a_body_without_a_length_that_breaks_off_is_an_error_that_may_pass(server, monkeypatch):
    server.objects["a"] = b"0123456789"
    filesystem, _ = open_filesystem("s3://bucket", server.storage)
    (listed,) = request_page(filesystem, "bucket", prefix="").objects
    monkeypatch.setattr(filesystems, "_get", lambda *_: b"0123")
    with pytest.raises(OSError, match="4 of 10 bytes") as caught:
        fetch(filesystem, "bucket/a", tag=listed.tag, size=10)
    assert is_transient(caught.value)
    server.objects["a"] = b"0123"
    with pytest.raises(ChangedError):
        fetch(filesystem, "bucket/a", tag=listed.tag, size=10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_makes_requests_of_its_own(server):
    script = """
    import os, sys
    from cluster import Storage
    from cluster.storage.filesystems import fetch, open_filesystem
    storage = Storage(endpoint=sys.argv[1], anonymous=True)
    assert fetch(open_filesystem("s3://bucket", storage)[0], "bucket/a") == b"1"
    child = os.fork()
    if child == 0:
        os._exit(fetch(open_filesystem("s3://bucket", storage)[0], "bucket/a") != b"1")
    assert os.waitpid(child, 0)[1] == 0
    """
    assert_quiet(script, server)


def test_a_process_that_stops_in_the_middle_ends_without_a_word(server):
    script = """
    import sys
    from cluster import Storage
    from cluster.records import open_source, read_shard
    storage = Storage(endpoint=sys.argv[1], anonymous=True)
    records = read_shard(next(open_source("s3://bucket", storage=storage).shards()))
    assert next(records).data == b"1"
    """
    server.objects |= {f"{number:03}.jpg": b"1" for number in range(100)}
    assert_quiet(script, server)


def assert_quiet(script: str, server) -> None:
    server.objects["a"] = b"1"
    words = [sys.executable, "-c", textwrap.dedent(script), server.storage.endpoint]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
