"""GET requests to S3 without its client library: the same URLs, credentials and errors at a fifth of the CPU time.

The library decides all that needs deciding. One request of it is intercepted before it is sent, and shows the server,
the place of the bucket in the URL, the region and the kind of signature; its session has the credentials and renews
them. What follows are requests like that one, signed and sent by `s3_signature` and `http_connections`. Errors become
the exceptions that the library raises, so nothing else needs to know who sent a request. Where a request is none that
these modules can make (through a proxy, to a bucket with signatures of another kind), the library sends it.

The library is imported where it is used: it takes half a second, and local archives do not need it.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException, responses
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit
from uuid import uuid4
from xml.etree import ElementTree as ET

from fsspec.asyn import sync

from cluster.storage.http_connections import ClosedError, ConnectError, Connections, Response
from cluster.storage.s3_signature import ALGORITHM, SERVICE, Key, query_string, quoted_path, signed_headers

KEY_LIFETIME_S = 30.0
"""Seconds for which credentials are used before the library's session is asked again, which renews them in time."""
REDIRECTED = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "301", "307", "308"})
"""Codes of responses that lead to another region or server. The library follows them, and remembers the region."""

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
        url = urlsplit(target.url)
        self._host, self._base = url.netloc, url.path
        port = url.port or (80 if context is None else 443)
        self._connections = Connections(str(url.hostname), port, context)
        self._key: tuple[float, Key] | None = None
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
        path = f"{self._base}/{quoted_path(key)}"
        return self._send(path, "", headers or {}, operation="GetObject", max_bytes=max_bytes)

    def list_page(self, query: Mapping[str, str]) -> bytes:
        """Return one page of a listing (ListObjectsV2), as XML.

        Raises:
            Exception: see `get`.
        """
        everything = {"list-type": "2", "encoding-type": "url", **query}
        return self._send(self._base or "/", query_string(everything), {}, operation="ListObjectsV2")

    def _send(
        self, path: str, query: str, headers: Mapping[str, str], *, operation: str, max_bytes: int | None = None
    ) -> bytes:
        sent = {"user-agent": self._target.agent, "accept-encoding": "identity", **headers}
        if self._target.region is not None:
            now = datetime.now(UTC)
            sent |= signed_headers(
                "GET", self._host, path, query, key=self._current_key(), region=self._target.region, now=now
            )
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        target = f"{path}?{query}" if query else path
        head = f"GET {target} HTTP/1.1\r\nhost: {self._host}\r\n{lines}\r\n".encode("latin-1")
        try:
            response = self._connections.exchange(head, max_bytes=max_bytes)
        except (OSError, HTTPException) as error:
            self._raise_unanswered(error, path)
        if response.status not in (200, 206):
            raise _error_of(response, operation)
        return response.body

    def _raise_unanswered(self, error: OSError | HTTPException, path: str) -> NoReturn:
        """Raise the exception of the library for a request without a response."""
        from botocore import exceptions

        url, cause = f"{self._target.url}{path.removeprefix(self._base)}", error.__cause__ or error
        if isinstance(cause, ssl.SSLError) and isinstance(error, ConnectError):
            raise exceptions.SSLError(endpoint_url=url, error=cause) from error
        if isinstance(cause, TimeoutError):
            kind = exceptions.ConnectTimeoutError if isinstance(error, ConnectError) else exceptions.ReadTimeoutError
            raise kind(endpoint_url=url, error=cause) from error
        if isinstance(error, ConnectError):
            raise exceptions.EndpointConnectionError(endpoint_url=url, error=cause) from error
        if isinstance(error, ClosedError):
            raise exceptions.ConnectionClosedError(endpoint_url=url, error=cause) from error
        raise exceptions.HTTPClientError(error=cause) from error

    def _current_key(self) -> Key:
        """Return the credentials of the library's session.

        Raises:
            botocore.exceptions.NoCredentialsError: there are none.
        """
        known = self._key
        if known is not None and time.monotonic() - known[0] < KEY_LIFETIME_S:
            return known[1]
        with self._renewing:
            if self._key is None or time.monotonic() - self._key[0] >= KEY_LIFETIME_S:
                self._key = (time.monotonic(), _session_key(self._filesystem))
            return self._key[1]


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
    """Return the signed GET of an object as the library would send it."""

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
    if "?" in url or not url.endswith(f"/{key}"):
        return None
    base = url.removesuffix(f"/{key}")
    if not signature:
        return Target(base, None, agent)
    algorithm, _, rest = signature.partition(" ")
    *_, region, service, _ = rest.partition(",")[0].split("/")
    return Target(base, region, agent) if (algorithm, service) == (ALGORITHM, SERVICE) else None


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _tls_context(filesystem: Any) -> ssl.SSLContext:
    """Return a context that trusts what the library trusts: certificates of the job, or of the environment, or all."""
    from botocore.httpsession import get_cert_path

    chosen = filesystem.client_kwargs.get("verify") or filesystem.session.get_config_variable("ca_bundle") or True
    return ssl.create_default_context(cafile=get_cert_path(chosen))


def _session_key(filesystem: Any) -> Key:
    from botocore.exceptions import NoCredentialsError

    async def find() -> Any:
        credentials = await filesystem.session.get_credentials()
        return None if credentials is None else await credentials.get_frozen_credentials()

    found = sync(filesystem.loop, find)
    if found is None:
        raise NoCredentialsError
    return Key(found.access_key, found.secret_key, found.token or None)


def _error_of(response: Response, operation: str) -> Exception:
    """Return the exception that s3fs raises for a response with an error."""
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    code, message = _code_and_message(response)
    details = {"HTTPStatusCode": response.status, "HTTPHeaders": dict(response.headers)}
    error = ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": details}, operation)
    return cast("Exception", translate_boto_error(error))


def _code_and_message(response: Response) -> tuple[str, str]:
    """Return code and message of an error as the library does: of its XML, or of the status if there is none."""
    of_status = (str(response.status), responses.get(response.status, ""))
    if not response.body or (response.status >= 500 and response.body.lstrip().startswith(b"<html>")):
        return of_status
    try:
        root = ET.fromstring(response.body)  # noqa: S314 (expat limits the expansion of entities)
    except ET.ParseError:
        return of_status
    found = {child.tag.rpartition("}")[2]: child.text or "" for child in root}
    return found.get("Code", ""), found.get("Message", "")
