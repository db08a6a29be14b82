"""Classes of storage errors: transient or permanent, about one object or the whole store, and advice for the user."""

from __future__ import annotations

import errno

from cluster.secrets import redacted
from cluster.storage.filesystems import s3_code
from cluster.storage.settings import TRUST_ADVICE

CLIENT_LIBRARIES = frozenset({"aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google"})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NO_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"})
NOT_TRUSTED = frozenset({"SSLError", "ClientConnectorCertificateError"})
WRONG_CREDENTIALS = frozenset({"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"})
WRONG_REGION = frozenset(
    {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "301"}
)
NO_BUCKET = frozenset({"NoSuchBucket", "InvalidBucketName", "ParamValidationError"})
THROTTLED = frozenset({"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"})
WRONG_CLOCK = frozenset({"RequestTimeTooSkewed"})
NOT_S3 = frozenset({"ResponseParserError", "NotS3Error", "TooManyRedirects"})
"""Types of errors that web pages and endless redirects in place of S3's responses lead to."""
STORE_WIDE = WRONG_CREDENTIALS | WRONG_REGION | NO_BUCKET | WRONG_CLOCK
"""S3 codes that concern a whole store. Their HTTP statuses usually mean that only this one object is missing."""

_PERMANENT_ERRNOS = frozenset({errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EOPNOTSUPP})
_PERMANENT_TYPES = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
_TRANSIENT_CODES = frozenset({"BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch"})
_TRANSIENT_STATUSES = frozenset({401, 407, 408, 409, 425, 429})


def is_storage_error(error: BaseException) -> bool:
    """Return whether the error comes from storage. Client libraries raise some that are not OSErrors."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in CLIENT_LIBRARIES


def is_store_wide(error: BaseException) -> bool:
    """Return whether every object of the store is unavailable, for a reason that waiting does not change."""
    return s3_code(error) in STORE_WIDE or bool(
        _type_names(error) & (NO_CREDENTIALS | NOT_TRUSTED | NO_BUCKET | NOT_S3)
    )


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed later."""
    if not is_storage_error(error) or is_store_wide(error) or isinstance(error, _PERMANENT_TYPES):
        return False
    status = http_status(error)
    if status is not None and 400 <= status < 500:
        return status in _TRANSIENT_STATUSES or s3_code(error) in _TRANSIENT_CODES
    return getattr(error, "errno", None) not in FULL | _PERMANENT_ERRNOS


def _type_names(error: BaseException) -> set[str]:
    """Return the names of the types of an error and of the one behind it, which a client library has wrapped."""
    return {type(each).__name__ for each in (error, error.__cause__ or error.__context__) if each is not None}


def is_throttled(error: BaseException) -> bool:
    """Return whether a server limits the rate of requests."""
    return s3_code(error) in THROTTLED or http_status(error) in (429, 503)


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status of the server's response; None if the client library does not pass it on."""
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def is_web_page(error: BaseException) -> bool:
    """Return whether botocore got a web page for a listing: it makes that a response with status 500."""
    response = getattr(error.__cause__, "response", None) or {}
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return http_status(error) == 500 and str(headers.get("content-type", "")).startswith("text/html")


def summary(error: BaseException) -> str:
    """Return the error on one line: the server's code or the error's type, then the message, without secrets."""
    code = s3_code(error)
    message = f"{error}" if str(error) not in ("", "None", "[Errno 22] None") else ""
    return redacted(": ".join(part for part in (code or type(error).__name__, message) if part)).rstrip(". ")


def advice(error: BaseException) -> str:
    """Return one sentence or two: what the user can do about the error."""
    names = _type_names(error) | {s3_code(error)}
    for codes, text in _ADVICE:
        if names & codes:
            return text
    if getattr(error, "errno", None) in FULL:
        return "The storage is full or over its quota: free some space and run again; finished work is kept."
    if isinstance(error, IsADirectoryError):
        return "Remove or rename this folder, and run again."
    if isinstance(error, PermissionError):
        return "The credentials do not allow this: check which ones are used, and the bucket's policy."
    if not is_transient(error):
        return "Trying again would not help: choose another location."
    return "Storage did not recover in time: check the connection and the endpoint, then run again to resume."


_ADVICE = (
    (
        NO_CREDENTIALS,
        (
            "No credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) in the environment "
            "of driver and workers, or give the machines a role; for a public bucket, set anonymous under [storage]."
        ),
    ),
    (
        WRONG_CREDENTIALS,
        (
            "The server rejects the credentials of the environment, or they have expired: check AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, and the endpoint under [storage]."
        ),
    ),
    (WRONG_REGION, "The bucket is in another region: set region under [storage] to it."),
    (NO_BUCKET, "The bucket does not exist: create it, or check its name and the endpoint under [storage]."),
    (
        NOT_S3,
        (
            "The server does not respond as an S3 server does, but with web pages or redirects: check the host and "
            "port of the endpoint under [storage] (a server's console has another port than its storage)."
        ),
    ),
    (WRONG_CLOCK, "The clock of this machine differs too much from the server's: set it."),
    (NOT_TRUSTED, TRUST_ADVICE),
)
