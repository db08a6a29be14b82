"""S3 errors are classified: transient, about one object, or about the whole store."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, SSLError
from s3fs.errors import translate_boto_error

from cluster import Storage
from cluster.records.base import EntryError
from cluster.records.reading import with_retries
from cluster.storage.error_classes import advice, is_store_wide, is_transient, summary

URL = "https://host:9000/bucket"


def s3_error(code, status):
    """Return the exception that s3fs makes of an error response."""
    response = {"Error": {"Code": code, "Message": None}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translate_boto_error(ClientError(response, "GetObject"))


@pytest.mark.parametrize(
    "error",
    [
        s3_error("SlowDown", 503),
        s3_error("InternalError", 500),
        s3_error("RequestTimeout", 400),
        s3_error("IncompleteBody", 400),
        s3_error("TooManyRequests", 429),
        s3_error("ConditionalRequestConflict", 409),
        EndpointConnectionError(endpoint_url=URL),
        ConnectionResetError("cut"),
        TimeoutError("late"),
    ],
    ids=summary,
)
def test_transient_errors_are_retried(error):
    assert is_transient(error)
    assert not is_store_wide(error)
    assert "run again to resume" in advice(error)


@pytest.mark.parametrize(
    ("error", "expected_advice"),
    [
        (s3_error("NoSuchBucket", 404), "bucket does not exist"),
        (s3_error("AuthorizationHeaderMalformed", 400), "set region under [storage]"),
        (s3_error("PermanentRedirect", 301), "set region under [storage]"),
        (s3_error("SignatureDoesNotMatch", 403), "check AWS_ACCESS_KEY_ID"),
        (s3_error("ExpiredToken", 400), "have expired"),
        (s3_error("RequestTimeTooSkewed", 403), "clock of this machine differs"),
        (NoCredentialsError(), "set AWS_ACCESS_KEY_ID"),
        (SSLError(endpoint_url=URL, error="unknown authority"), "ca_file"),
    ],
    ids=lambda value: value if isinstance(value, str) else summary(value),
)
def test_store_wide_errors_are_permanent_and_have_advice(error, expected_advice):
    assert is_store_wide(error)
    assert not is_transient(error)
    assert expected_advice in advice(error)


@pytest.mark.parametrize(
    "error", [s3_error("InvalidArgument", 400), s3_error("EntityTooLarge", 400), s3_error("NoSuchKey", 404)]
)
def test_permanent_errors_of_one_object_are_not_retried(error):
    assert not is_transient(error)
    assert not is_store_wide(error)


def test_only_errors_of_one_object_become_its_reason():
    def fail(error):
        raise error

    missing, forbidden = s3_error("NoSuchKey", 404), s3_error("AccessDenied", 403)
    for error, reason in ((missing, "not found"), (forbidden, "permission denied")):
        with pytest.raises(EntryError, match=reason):
            with_retries(lambda error=error: fail(error), "a.jpg")
    with pytest.raises(OSError, match=r"cannot read a.jpg: NoSuchBucket\. The bucket does not exist"):
        with_retries(lambda: fail(s3_error("NoSuchBucket", 404)), "a.jpg")


def test_an_endpoint_with_credentials_is_refused():
    with pytest.raises(ValueError, match="credentials"):
        Storage(endpoint="https://me:hunter2@host")
