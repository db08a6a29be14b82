"""GET requests to S3 without s3fs: the same URLs, credentials and errors at a third of the CPU time.

s3fs decides all that needs deciding. One request of it is intercepted before it is sent, and shows the server, the
place of the bucket in the URL, the region and the kind of signature; its session has the credentials and renews them.
What follows are requests like that one, signed by botocore and sent by urllib3. Errors become the exceptions that s3fs
raises, so nothing else needs to know who sent a request. Where a request is none that this module can make (through a
proxy, to a bucket with signatures of another kind), s3fs sends it.

These libraries are imported where they are used: they take half a second, and local archives do not need them.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import responses
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit
from uuid import uuid4
from xml.etree import ElementTree as ET

from fsspec.asyn import sync

from cluster.storage.read_ahead import MAX_REQUESTS

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool
    from urllib3.exceptions import HTTPError

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 30
"""Seconds to connect to a server, and between two pieces of its response."""
MAX_IDLE_CONNECTIONS = 2 * MAX_REQUESTS
"""Connections that are kept for each bucket: more than there are threads to use them."""
PROBE_AFTER_S = 20
"""Seconds after which the system probes an idle connection: some firewalls forget silent ones without a word."""
OK = frozenset({200, 206})
ALGORITHM, SERVICE = "AWS4-HMAC-SHA256", "s3"
MAX_ERROR_BYTES = 1 << 16
"""Of the body of a response with an error, which is read whatever part of the object was wanted: it has the code."""
KEY_LIFETIME_S = 30.0
"""Seconds for which credentials are used before the session of s3fs is asked again, which renews them in time."""
REDIRECTED = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "301", "307", "308"})
"""Codes of responses that lead to another region or server. s3fs follows them, and remembers the region."""

_known: dict[tuple[int, int, str], tuple[Any, S3Requests | None]] = {}
_opening = threading.Lock()


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how requests about a bucket are sent.

    Attributes:
        url: of the bucket, without a "/" at its end.
        region: for signatures; None sends none.
        agent: name of the client library.
    """

    url: str
    region: str | None
    agent: str


class S3Requests:
    """Sends GET requests about one bucket; threads share it.

    Args:
        filesystem: s3fs, which has the credentials.
        target: of the requests.
        context: of TLS; None for http.
    """

    def __init__(self, filesystem: Any, target: Target, context: ssl.SSLContext | None) -> None:
        self._filesystem, self._target = filesystem, target
        self._base = urlsplit(target.url).path
        self._origin = target.url.removesuffix(self._base)
        self._pool = _connection_pool(self._origin, context)
        self._signer: tuple[float, Any] | None = None
        self._renewing = threading.Lock()

    def get(self, key: str, headers: Mapping[str, str] | None = None, *, max_bytes: int | None = None) -> bytes:
        """Return the content of an object.

        Args:
            key: of the object.
            headers: more headers, such as Range and If-Match.
            max_bytes: that are read at most; None reads all.

        Raises:
            OSError: as s3fs raises it, with the server's response.
            botocore.exceptions.BotoCoreError: no response.
        """
        path = f"{self._base}/{quote(key, safe='/~', errors='surrogatepass')}"
        return self._send(path, headers or {}, operation="GetObject", max_bytes=max_bytes)

    def list_page(self, query: Mapping[str, str]) -> bytes:
        """Return one page of a listing (ListObjectsV2), as XML.

        Raises:
            Exception: see `get`.
        """
        from botocore.utils import percent_encode_sequence

        everything = percent_encode_sequence({"list-type": "2", "encoding-type": "url", **query})
        return self._send(f"{self._base or '/'}?{everything}", {}, operation="ListObjectsV2")

    def _send(self, target: str, headers: Mapping[str, str], *, operation: str, max_bytes: int | None = None) -> bytes:
        from urllib3.exceptions import HTTPError

        sent = self._signed_headers(target, {"user-agent": self._target.agent, **headers})
        try:
            response, body = self._exchange(target, sent, max_bytes)
        except HTTPError as error:
            raise _error_without_response(error, self._origin + target.partition("?")[0]) from error
        if response.status not in OK:
            raise _error_of(response, body, operation)
        if not _is_wanted_part(headers.get("range", ""), response.headers.get("content-range", "")):
            raise OSError(errno.EIO, "the response has another part of the object than was requested")
        return body

    def _exchange(
        self, target: str, headers: Mapping[str, str], max_bytes: int | None
    ) -> tuple[BaseHTTPResponse, bytes]:
        """Return the response to a request, and its body: at most `max_bytes` of an object, or all of an error.

        Raises:
            urllib3.exceptions.SSLError: TLS cannot be set up.
            urllib3.exceptions.HTTPError: no response, or only a part of it.
        """
        from urllib3.exceptions import ProtocolError, SSLError

        is_set_up = False
        try:
            with self._pool.urlopen(
                "GET", target, headers=headers, redirect=False, preload_content=False, decode_content=False
            ) as response:
                is_set_up = True
                return response, _read(response, max_bytes if response.status in OK else MAX_ERROR_BYTES)
        except SSLError as error:
            if is_set_up or isinstance(error.args[0], ssl.SSLEOFError | ssl.SSLZeroReturnError):
                raise ProtocolError("Connection broken", error.args[0]) from error
            raise

    def _signed_headers(self, target: str, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of a request, with those that sign it."""
        from botocore.awsrequest import AWSRequest

        if self._target.region is None:
            return dict(headers)
        request = AWSRequest("GET", self._origin + target, headers)
        self._current_signer(self._target.region).add_auth(request)
        return dict(request.headers.items())

    def _current_signer(self, region: str) -> Any:
        """Return botocore's signer with the credentials of the session.

        Raises:
            botocore.exceptions.NoCredentialsError: there are none.
        """
        from botocore.auth import S3SigV4Auth

        known = self._signer
        if known is not None and time.monotonic() - known[0] < KEY_LIFETIME_S:
            return known[1]
        with self._renewing:
            if self._signer is None or time.monotonic() - self._signer[0] >= KEY_LIFETIME_S:
                signer = S3SigV4Auth(_session_credentials(self._filesystem), SERVICE, region)
                self._signer = (time.monotonic(), signer)
            return self._signer[1]


def s3_requests(filesystem: Any, bucket: str) -> S3Requests | None:
    """Return the requests about a bucket, the same for all threads of a process; None if only s3fs can make them.

    Args:
        filesystem: s3fs.
        bucket: name of the bucket.

    Raises:
        botocore.exceptions.NoCredentialsError: there are none.
        Exception: what s3fs raises where it cannot find out how to send a request.
    """
    name = (os.getpid(), id(filesystem), bucket)
    with _opening:
        if name not in _known:
            _known[name] = (filesystem, _opened(filesystem, bucket))  # The reference keeps the identity its own.
        return _known[name][1]


def discard_requests(filesystem: Any, bucket: str) -> None:
    """Find out anew how requests about a bucket are sent: its region is another one than was assumed."""
    with _opening:
        _known.pop((os.getpid(), id(filesystem), bucket), None)


def s3_code(error: BaseException) -> str:
    """Return the error code of an S3 response; "" where the error is not from one."""
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _opened(filesystem: Any, bucket: str) -> S3Requests | None:
    from botocore.utils import get_environ_proxies

    if filesystem.req_kw or filesystem.s3_additional_kwargs:
        return None
    probe = f"{uuid4().hex}"
    request = sync(filesystem.loop, _intercept, filesystem, bucket, probe)
    target = _target_of(request, probe)
    if target is None or get_environ_proxies(target.url):
        return None
    return S3Requests(filesystem, target, _tls_context(filesystem) if target.url.startswith("https") else None)


class _InterceptedError(Exception):
    """Carries a request that is not sent."""


async def _intercept(filesystem: Any, bucket: str, key: str) -> Any:
    """Return the signed GET of an object as s3fs would send it."""

    def intercept(request: Any, **_: Any) -> None:
        if request.url.partition("?")[0].endswith(key):
            raise _InterceptedError(request)

    await filesystem.set_session()
    client = await filesystem.get_s3(bucket)
    client.meta.events.register("before-send.s3.GetObject", intercept)
    try:
        await client.get_object(Bucket=bucket, Key=key)
    except _InterceptedError as intercepted:
        return intercepted.args[0]
    finally:
        client.meta.events.unregister("before-send.s3.GetObject", intercept)
    raise AssertionError("unreachable: no response has been requested")


def _target_of(request: Any, key: str) -> Target | None:
    """Return the target of requests like this one; None for a signature of another kind."""
    url = str(request.url)
    agent, signature = (_text(request.headers.get(name, "")) for name in ("User-Agent", "Authorization"))
    if not url.endswith(f"/{key}"):
        return None
    base = url.removesuffix(f"/{key}")
    if not signature:
        return Target(base, None, agent)
    algorithm, _, rest = signature.partition(" ")
    if algorithm != ALGORITHM:
        return None
    *_, region, service, _ = rest.partition(",")[0].split("/")
    return Target(base, region, agent) if service == SERVICE else None


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _tls_context(filesystem: Any) -> ssl.SSLContext:
    """Return a context that trusts what s3fs trusts: certificates of the job, or of the environment, or all."""
    from botocore.httpsession import get_cert_path

    chosen = filesystem.client_kwargs.get("verify") or filesystem.session.get_config_variable("ca_bundle") or True
    return ssl.create_default_context(cafile=get_cert_path(chosen))


def _connection_pool(origin: str, context: ssl.SSLContext | None) -> HTTPConnectionPool:
    """Return the connections to a server. A request that fails is not repeated: `cluster.storage.retry` does that."""
    from urllib3 import Timeout, connection_from_url
    from urllib3.connection import HTTPConnection

    probes = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    if hasattr(socket, "TCP_KEEPIDLE"):
        probes.append((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_S))
    return connection_from_url(
        origin,
        timeout=Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
        retries=False,
        maxsize=MAX_IDLE_CONNECTIONS,
        socket_options=[*HTTPConnection.default_socket_options, *probes],
        **({} if context is None else {"ssl_context": context}),
    )


def _read(response: BaseHTTPResponse, max_bytes: int | None) -> bytes:
    """Return the body, at most `max_bytes` of it.

    Raises:
        urllib3.exceptions.ProtocolError: the connection or the response ends before its body does.
    """
    body = response.read(max_bytes)
    if max_bytes is not None and len(body) < max_bytes:
        body += response.read(max_bytes - len(body))  # Only a read at the end compares the length.
    return body


def _is_wanted_part(wanted: str, found: str) -> bool:
    """Return whether a response begins where it should, as far as its header says. Some caches mix parts up."""
    starts = [re.match(r"bytes[= ](\d+)-", header) for header in (wanted, found)]
    return len({start[1] for start in starts if start}) < 2


def _error_without_response(error: HTTPError, url: str) -> Exception:
    """Return the exception of botocore for a request without a whole response."""
    from botocore import exceptions as botocore
    from urllib3 import exceptions as urllib3

    if isinstance(error, urllib3.ProtocolError):
        kind = botocore.ConnectionClosedError
    elif isinstance(error, urllib3.SSLError):
        kind = botocore.SSLError
    elif isinstance(error, urllib3.NewConnectionError):
        kind = botocore.EndpointConnectionError
    elif isinstance(error, urllib3.ConnectTimeoutError):
        kind = botocore.ConnectTimeoutError
    elif isinstance(error, urllib3.ReadTimeoutError):
        kind = botocore.ReadTimeoutError
    else:
        kind = botocore.HTTPClientError
    return cast("Exception", kind(endpoint_url=url, error=error))


def _session_credentials(filesystem: Any) -> Any:
    from botocore.exceptions import NoCredentialsError

    async def find() -> Any:
        credentials = await filesystem.session.get_credentials()
        return None if credentials is None else await credentials.get_frozen_credentials()

    found = sync(filesystem.loop, find)
    if found is None:
        raise NoCredentialsError
    return found


def _error_of(response: BaseHTTPResponse, body: bytes, operation: str) -> Exception:
    """Return the exception that s3fs raises for a response with an error."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return _translated(response.status, headers, body, operation)


def error_in_place_of_content(body: bytes, operation: str) -> Exception:
    """Return the exception for an error that came with status 200, as if it had come with 500: it may pass."""
    return _translated(500, {}, body, operation)


def _translated(status: int, headers: Mapping[str, str], body: bytes, operation: str) -> Exception:
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    code, message = _code_and_message(status, body)
    details = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    error = ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": details}, operation)
    return cast("Exception", translate_boto_error(error))


def _code_and_message(status: int, body: bytes) -> tuple[str, str]:
    """Return code and message of an error as botocore does: of its XML, or of the status if there is none."""
    of_status = (str(status), responses.get(status, ""))
    if not body or (status >= 500 and body.lstrip().startswith(b"<html>")):
        return of_status
    try:
        root = ET.fromstring(body)  # noqa: S314 (expat limits the expansion of entities)
    except ET.ParseError:
        return of_status
    found = {child.tag.rpartition("}")[2]: child.text or "" for child in root}
    return found.get("Code", ""), found.get("Message", "")
