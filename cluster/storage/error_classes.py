"""What storage's errors mean: what may pass, what will not, and what the user can do about it."""

from __future__ import annotations

import errno

from cluster.secrets import redacted
from cluster.storage.filesystems import s3_code
from cluster.storage.settings import TRUST

CLIENT_LIBRARIES = frozenset({"aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google"})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NO_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"})
NOT_TRUSTED = frozenset({"SSLError", "ClientConnectorCertificateError"})
WRONG_CREDENTIALS = frozenset({"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"})
WRONG_REGION = frozenset(
    {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "301"}
)
NO_BUCKET = frozenset({"NoSuchBucket", "InvalidBucketName", "ParamValidationError"})
WRONG_CLOCK = frozenset({"RequestTimeTooSkewed"})
NOT_ABOUT_THE_OBJECT = WRONG_CREDENTIALS | WRONG_REGION | NO_BUCKET | WRONG_CLOCK
"""What S3 says of a whole store. It says it with statuses that otherwise mean that this one object is not there."""

_HOPELESS = frozenset({errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EOPNOTSUPP})
_HOPELESS_TYPES = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
_MAY_PASS = frozenset({"BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch"})
_STATUSES_THAT_MAY_PASS = frozenset({401, 407, 408, 409, 425, 429})


def is_storage_error(error: BaseException) -> bool:
    """Whether the error comes from storage. Client libraries raise some that are not OSErrors."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in CLIENT_LIBRARIES


def is_store_wide(error: BaseException) -> bool:
    """Whether no object of the store can be had, for a reason that will not pass by waiting."""
    return s3_code(error) in NOT_ABOUT_THE_OBJECT or type(error).__name__ in NO_CREDENTIALS | NOT_TRUSTED | NO_BUCKET


def is_transient(error: BaseException) -> bool:
    """Whether the same request may well succeed later."""
    if not is_storage_error(error) or is_store_wide(error) or isinstance(error, _HOPELESS_TYPES):
        return False
    status = http_status(error)
    if status is not None and 400 <= status < 500:
        return status in _STATUSES_THAT_MAY_PASS or s3_code(error) in _MAY_PASS
    return getattr(error, "errno", None) not in FULL | _HOPELESS


def http_status(error: BaseException) -> int | None:
    """The status that a server answered with, as far as the client library tells."""
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def summary(error: BaseException) -> str:
    """The error on one line, with what the server calls it, and without secrets."""
    code = s3_code(error)
    told = f"{error}" if str(error) not in ("", "None", "[Errno 22] None") else ""
    return redacted(": ".join(part for part in (code or type(error).__name__, told) if part)).rstrip(". ")


def advice(error: BaseException) -> str:
    """What the user can do about it."""
    code, name = s3_code(error), type(error).__name__
    for codes, text in _ADVICE:
        if code in codes or name in codes:
            return text
    if getattr(error, "errno", None) in FULL:
        return "The storage is full (or over its quota): free some space and run again; what is done stays done."
    if isinstance(error, PermissionError):
        return "These credentials may not do that: check whose they are, and the bucket's policy."
    if not is_transient(error):
        return "Trying again would not help: choose another place."
    return "Storage did not recover in time: check the connection and the endpoint, then run again to resume."


_ADVICE = (
    (
        NO_CREDENTIALS,
        (
            "No credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) in the environment of "
            "driver and workers, or give the machines an identity; for a public bucket, set anonymous under [storage]."
        ),
    ),
    (
        WRONG_CREDENTIALS,
        (
            "The credentials of the environment are wrong here, or have expired: check AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, and the endpoint under [storage]."
        ),
    ),
    (WRONG_REGION, "The bucket is in another region: name it as region under [storage]."),
    (NO_BUCKET, "There is no such bucket here: create it, or check its name and the endpoint under [storage]."),
    (WRONG_CLOCK, "This machine's clock is wrong: set it."),
    (NOT_TRUSTED, TRUST),
)
