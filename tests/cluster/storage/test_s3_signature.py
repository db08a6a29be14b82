from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from cluster.storage.s3_signature import Key, query_string, quoted_path, signed_headers

NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    path=TEXT,
    query=st.dictionaries(TEXT.filter(bool), TEXT, max_size=3),
    token=st.none() | st.text("abc/+=", min_size=1),
    region=st.sampled_from(["us-east-1", "eu-central-1"]),
)
def test_a_signature_is_that_of_botocore(path, query, token, region):
    key = Key("access", "secret", token)
    sent = quoted_path(f"/bucket/{path}")
    ours = signed_headers("GET", "127.0.0.1:9000", sent, query_string(query), key=key, region=region, now=NOW)
    request = AWSRequest("GET", f"http://127.0.0.1:9000{sent}", params=query)
    with patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        S3SigV4Auth(Credentials("access", "secret", token), "s3", region).add_auth(request)
    assert ours == {name.lower(): value for name, value in request.headers.items()}


def test_a_path_is_escaped_byte_by_byte():
    assert quoted_path("/b/é +&?#%41//~_.-") == "/b/%C3%A9%20%2B%26%3F%23%2541//~_.-"
    assert query_string({"prefix": "a b/~", "list-type": "2"}) == f"list-type=2&prefix={quote('a b/', safe='')}~"


def test_the_secret_is_in_no_repr():
    assert "secret" not in repr(Key("access", "secret-key", "secret-token"))
