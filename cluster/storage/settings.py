"""How object storage is reached: which S3 server, in which region, trusted by what; never with which credentials."""

from __future__ import annotations

import re
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from urllib.parse import SplitResult, urlsplit

from cluster.errors import StorageError

S3_SCHEMES = frozenset({"s3", "s3a"})
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A small picklable value that travels with every store and archive to workers on other machines.

    Credentials are not in it: each machine has its own, in its environment or by its identity. It says nothing about
    local paths and other kinds of storage, and it decides no byte of a result.

    Attributes:
        endpoint: http(s) URL of an S3 server; None is AWS, or what AWS_ENDPOINT_URL says.
        region: of the buckets; None is what the environment says.
        path_style: whether the bucket stands in the URL's path instead of the host's name; None does what servers of
            one's own need (yes) and AWS wants (no).
        certificates: PEM text of the authorities that may sign the server's certificate; None trusts those of the
            machine.
        anonymous: send no signature, as public buckets allow.

    Raises:
        ValueError: the endpoint is no http(s) URL, or has credentials in it; the certificates are none.
    """

    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    certificates: str | None = field(default=None, repr=False)
    anonymous: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked without asking anybody."""
        if self.certificates is not None:
            self._trust()
        if self.endpoint is None:
            return
        url = urlsplit(self.endpoint)
        if "@" in url.netloc:
            raise ValueError("endpoint: a URL with credentials in it; give them through the environment")
        if url.scheme not in ("http", "https") or not _is_host(url) or url.path.strip("/") or url.query:
            raise ValueError(
                f"endpoint: expected something like https://host:9000, nothing behind the host, got {self.endpoint!r}"
            )

    def _trust(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cadata=self.certificates)
        except ssl.SSLError as error:
            raise ValueError(f"expected certificates in PEM, got something else: {error}") from error

    def check_endpoint(self) -> None:
        """Ask the endpoint anything at all, so that a wrong one is told from what is wrong behind it.

        Raises:
            StorageError: nobody answers there within 10 s, or not in HTTP, or TLS fails; the message says where.
        """
        if self.endpoint is None:
            return
        trusted = self._trust() if self.endpoint.startswith("https") else None
        try:
            urllib.request.urlopen(self.endpoint, timeout=ANSWER_S, context=trusted).close()  # noqa: S310
        except urllib.error.HTTPError:
            return  # It answered: most servers refuse strangers.
        except (HTTPException, UnicodeError) as error:
            told = str(error).strip() or type(error).__name__
            raise StorageError(f"no S3 server is at {self.endpoint}: {told}. Check the endpoint's name.") from error
        except OSError as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLError):
                raise StorageError(f"TLS with {self.endpoint} failed: {reason}. {TRUST}") from error
            raise StorageError(f"nobody answers at {self.endpoint}: {reason}. Check the endpoint's name.") from error


def _is_host(url: SplitResult) -> bool:
    """Whether there is a host that can be one, with a port that can be one, if any."""
    try:
        return bool(url.hostname) and url.port != 0 and re.search(r"[\s\x00-\x1f]", url.netloc) is None
    except ValueError:
        return False


DEFAULT_STORAGE = Storage()
"""AWS, or whatever the environment says."""
TRUST = "Name the certificate of its authority as ca_file under [storage], or write http:// if it speaks no TLS."
