"""What S3 answers is told apart: what may pass, what is about one object, what is wrong with the whole store."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, SSLError
from s3fs.errors import translate_boto_error

from cluster import Storage
from cluster.records.base import EntryError
from cluster.records.reading import patiently
from cluster.storage.error_classes import advice, is_about_the_store, is_transient, summary

URL = "https://host:9000/bucket"


def answer(code, status):
    """What s3fs makes of an answer."""
    response = {"Error": {"Code": code, "Message": None}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translate_boto_error(ClientError(response, "GetObject"))


@pytest.mark.parametrize(
    "error",
    [
        answer("SlowDown", 503),
        answer("InternalError", 500),
        answer("RequestTimeout", 400),
        answer("IncompleteBody", 400),
        answer("TooManyRequests", 429),
        answer("ConditionalRequestConflict", 409),
        EndpointConnectionError(endpoint_url=URL),
        ConnectionResetError("cut"),
        TimeoutError("late"),
    ],
    ids=summary,
)
def test_what_may_pass_is_tried_again(error):
    assert is_transient(error)
    assert not is_about_the_store(error)
    assert "run again to resume" in advice(error)


@pytest.mark.parametrize(
    ("error", "expected_advice"),
    [
        (answer("NoSuchBucket", 404), "no such bucket"),
        (answer("AuthorizationHeaderMalformed", 400), "name it as region under [storage]"),
        (answer("PermanentRedirect", 301), "name it as region under [storage]"),
        (answer("SignatureDoesNotMatch", 403), "check AWS_ACCESS_KEY_ID"),
        (answer("ExpiredToken", 400), "have expired"),
        (answer("RequestTimeTooSkewed", 403), "clock is wrong"),
        (NoCredentialsError(), "set AWS_ACCESS_KEY_ID"),
        (SSLError(endpoint_url=URL, error="unknown authority"), "ca_file"),
    ],
    ids=lambda value: value if isinstance(value, str) else summary(value),
)
def test_what_is_wrong_with_the_whole_store_stops_at_once_and_says_what_to_do(error, expected_advice):
    assert is_about_the_store(error)
    assert not is_transient(error)
    assert expected_advice in advice(error)


@pytest.mark.parametrize(
    "error", [answer("InvalidArgument", 400), answer("EntityTooLarge", 400), answer("NoSuchKey", 404)]
)
def test_what_a_server_will_never_take_is_not_sent_again(error):
    assert not is_transient(error)
    assert not is_about_the_store(error)


def test_only_what_is_about_an_object_becomes_a_reason_for_it():
    def refuses(error):
        raise error

    for error, reason in ((answer("NoSuchKey", 404), "not found"), (answer("AccessDenied", 403), "permission denied")):
        with pytest.raises(EntryError, match=reason):
            patiently(lambda error=error: refuses(error), "a.jpg")
    with pytest.raises(OSError, match=r"cannot read a.jpg: NoSuchBucket\. There is no such bucket"):
        patiently(lambda: refuses(answer("NoSuchBucket", 404)), "a.jpg")


def test_the_way_to_a_server_holds_no_credentials():
    with pytest.raises(ValueError, match="credentials"):
        Storage(endpoint="https://me:hunter2@host")
