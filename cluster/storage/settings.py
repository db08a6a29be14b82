"""Connection settings of object storage: S3 server, region, certificates; never credentials."""

from __future__ import annotations

import re
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import SplitResult, urlsplit

from cluster.errors import StorageError
from cluster.secrets import redacted
from cluster.storage.retry import Retry

S3_SCHEMES = frozenset({"s3", "s3a"})
ENDPOINT_TIMEOUT_S = 10.0
TRUST_ADVICE = (
    "Set ca_file under [storage] to the certificate of the server's authority, or use http:// if it does not offer TLS."
)
_RETRY = Retry(deadline_s=3.0)
_NOT_S3_ADVICE = "Check the host and port of the endpoint: a server's console has another port than its storage."
_ENDPOINT_ADVICE = "Check the host and port of the endpoint, and that the server is running."


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A small picklable value that travels with every store and archive to workers on other machines.

    It contains no credentials: each machine has its own, in its environment or by its identity. It does not affect
    local paths or other kinds of storage, and no byte of a result depends on it.

    Attributes:
        endpoint: http(s) URL of an S3 server; None is AWS, or the value of AWS_ENDPOINT_URL.
        region: of the buckets; None is the region of the environment.
        path_style: whether the bucket stands in the URL's path instead of the host's name; None chooses the path for
            an endpoint of one's own and the host's name for AWS.
        certificates: PEM text of the authorities that may sign the server's certificate; None trusts those of the
            machine.
        anonymous: send no signature, as public buckets allow.

    Raises:
        ValueError: the endpoint is not an http(s) URL or contains credentials, or the certificates are not PEM.
    """

    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    certificates: str | None = field(default=None, repr=False)
    anonymous: bool = False

    def __post_init__(self) -> None:
        """Check everything that needs no request."""
        if self.certificates is not None:
            self._ssl_context()
        if self.endpoint is None:
            return
        if "@" in self.endpoint:
            raise ValueError("endpoint: the URL contains credentials; pass them through the environment instead")
        url = urlsplit(self.endpoint)
        has_more = bool(url.path.strip("/") or url.query or url.fragment)
        if url.scheme not in ("http", "https") or not _has_valid_host(url) or has_more:
            raise ValueError(
                "endpoint: expected a URL such as https://host:9000, without a path or query behind the host, "
                f"got {redacted(repr(self.endpoint))}"
            )

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cadata=self.certificates)
        except ssl.SSLError as error:
            raise ValueError(f"expected certificates in PEM format, got text that cannot be parsed: {error}") from error

    def check_endpoint(self) -> None:
        """Make one request to the endpoint, so that a wrong endpoint is distinguished from later errors of the server.

        Raises:
            StorageError: no response within 10 s, no HTTP response, web pages, redirects without end, or a TLS failure;
                the message has the endpoint.
        """
        if self.endpoint is None:
            return
        context = self._ssl_context() if self.endpoint.startswith("https") else None
        opener = urllib.request.build_opener(_SameServer, urllib.request.HTTPSHandler(context=context))
        try:
            if _RETRY.call(lambda: _content_type(opener, self.endpoint), is_transient=_is_cut) == "text/html":
                raise StorageError(f"{self.endpoint} serves web pages, not S3. {_NOT_S3_ADVICE}")
        except urllib.error.HTTPError as error:
            if str(error.reason).startswith(_SameServer.inf_msg):
                raise StorageError(f"{self.endpoint} redirects without end, and is not S3. {_NOT_S3_ADVICE}") from error
            return  # A response: most servers refuse unsigned requests.
        except StorageError:
            raise
        except (HTTPException, UnicodeError) as error:
            detail = str(error).strip() or type(error).__name__
            raise StorageError(f"no S3 server responds at {self.endpoint}: {detail}. {_ENDPOINT_ADVICE}") from error
        except OSError as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLError):
                raise StorageError(f"TLS with {self.endpoint} failed: {reason}. {TRUST_ADVICE}") from error
            raise StorageError(f"cannot connect to {self.endpoint}: {reason}. {_ENDPOINT_ADVICE}") from error


def _content_type(opener: urllib.request.OpenerDirector, endpoint: str | None) -> str:
    with opener.open(str(endpoint), timeout=ENDPOINT_TIMEOUT_S) as response:
        return str(response.headers.get_content_type())


def _is_cut(error: Exception) -> bool:
    """Return whether a server, perhaps an overloaded one, closed the connection."""
    return isinstance(getattr(error, "reason", error), ConnectionResetError | BrokenPipeError)


class _SameServer(urllib.request.HTTPRedirectHandler):
    """Follow a few redirects within a server. A redirect to another one is its response: AWS has one to a web page."""

    max_repeats = 2
    max_redirections = 4

    def redirect_request(self, req: urllib.request.Request, *args: Any) -> urllib.request.Request | None:
        """Return the next request; None if the redirect is not followed."""
        *_, url = args
        is_same = urlsplit(url).netloc == urlsplit(req.full_url).netloc
        return super().redirect_request(req, *args) if is_same else None


def _has_valid_host(url: SplitResult) -> bool:
    """Return whether a URL has a possible host and either a possible port or none."""
    try:
        return bool(url.hostname) and url.port != 0 and re.search(r"[\s\x00-\x1f;,\"'<>]", url.netloc) is None
    except ValueError:
        return False


DEFAULT_STORAGE = Storage()
"""AWS, or the settings of the environment."""
