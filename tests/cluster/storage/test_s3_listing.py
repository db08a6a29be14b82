from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial
from types import SimpleNamespace

import pytest
from botocore.parsers import ResponseParserError
from hypothesis import given
from hypothesis import strategies as st

from cluster.storage import s3_listing
from cluster.storage.error_classes import is_transient
from cluster.storage.s3_listing import Listed, NotS3Error, Page, list_flat, list_side_by_side, parse_page, request_page
from cluster.storage.s3_requests import s3_code

PAGE, FOLDER_PAGE = 4, 20


class Bucket:
    """Keys, listed in small pages as S3 lists them, and the number of requests of each kind."""

    def __init__(self, keys: Iterable[str], *, knows_start_after: bool = True) -> None:
        self.keys = sorted(keys, key=str.encode)
        self.requests: Counter[str] = Counter()
        self._knows_start_after, self._lock = knows_start_after, threading.Lock()

    def __call__(self, *, prefix: str, delimiter: str = "", start_after: str = "", token: str = "") -> Page:
        after = (token or (start_after if self._knows_start_after else "")).encode()
        with self._lock:
            self.requests["folders" if delimiter else "objects"] += 1
        names = []
        for key in self.keys:
            if key.startswith(prefix):
                name, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key[len(prefix) :], "", "")
                names.append(prefix + name + found)
        left = [name for name in dict.fromkeys(names) if name.encode() > after]
        size = FOLDER_PAGE if delimiter else PAGE
        page = left[:size]
        folders = [name for name in page if delimiter and name.endswith(delimiter)]
        objects = [Listed(name, 1, "") for name in page if name not in folders]
        return Page(objects, folders, page[-1] if left[size:] else "")


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr(s3_listing, "RANGE_OBJECTS", 2 * PAGE)
    monkeypatch.setattr(s3_listing, "RANGE_PAGES", 2)
    monkeypatch.setattr(s3_listing, "MIN_FOLDER_OBJECTS", 2)


def flat(bucket: Bucket, prefix: str) -> list[Listed]:
    return [item for page in list_flat(bucket, prefix) for item in page.objects if not item.key.endswith("/")]


def side_by_side(bucket: Bucket, prefix: str) -> list[Listed]:
    return [item for item in list_side_by_side(bucket, prefix) if not item.key.endswith("/")]


NAMES = st.text(st.sampled_from("ab/-0é\U0001f600\uffff "), min_size=1, max_size=5)


@given(
    keys=st.sets(st.one_of(NAMES, st.builds("{}/{}".format, st.sampled_from(["a", "a-", "p/b", "p/c"]), NAMES))),
    prefix=st.sampled_from(["", "a/", "p/", "missing/"]),
    knows_start_after=st.booleans(),
)
def test_a_listing_side_by_side_is_the_flat_one(keys, prefix, knows_start_after):
    bucket = Bucket(keys)
    assert side_by_side(Bucket(keys, knows_start_after=knows_start_after), prefix) == flat(bucket, prefix)


@pytest.mark.parametrize("sizes", [[20] * 30, [3] * 100, [1, 50, 1, 50], [100], [7] * 4 + [60]])
def test_large_listings_of_folders_are_equal(sizes):
    keys = {f"p/{folder:03}/{number:03}" for folder, size in enumerate(sizes) for number in range(size)}
    bucket = Bucket(keys)
    assert [item.key for item in side_by_side(bucket, "p/")] == sorted(keys)
    assert bucket.requests["objects"] <= 2 * len(keys) / PAGE + 8


def test_folders_are_listed_at_the_same_time():
    keys = {f"p/{folder:03}/{number:03}" for folder in range(30) for number in range(8)}
    bucket, now, most = Bucket(keys), [], []

    def request(**query):
        now.append(query)
        most.append(len(now))
        time.sleep(0.01)
        now.remove(query)
        return bucket(**query)

    assert [item.key for item in list_side_by_side(request, "p/")] == sorted(keys)
    assert max(most) >= 4


def test_nothing_is_ahead_of_the_first_page():
    bucket = Bucket({f"p/{number:03}" for number in range(100)})
    listing = list_side_by_side(bucket, "p/")
    assert [next(listing).key for _ in range(PAGE)] == [f"p/{number:03}" for number in range(PAGE)]
    assert bucket.requests == {"objects": 1}


@pytest.mark.parametrize("folder", ["p/", "p/images/", "p/deep/images/"])
def test_a_single_folder_takes_no_more_requests_than_its_pages(folder):
    bucket = Bucket({f"{folder}{number:03}" for number in range(100)})
    assert len(side_by_side(bucket, "p/")) == 100
    assert bucket.requests["objects"] == 100 / PAGE
    assert bucket.requests["folders"] <= 1


@pytest.mark.parametrize("empty", [(0,), (1,), (2, 3, 5), (4, 7)])
def test_an_empty_page_in_the_middle_is_no_end(empty):
    """A page of a bucket with deleted objects can be empty, and have a token."""
    keys = {f"p/{folder:03}/{number:03}" for folder in range(6) for number in range(9)}
    bucket, sent, lock = Bucket(keys), [], threading.Lock()

    def request(*, prefix, delimiter="", start_after="", token=""):
        with lock:
            sent.append(prefix)
            is_empty = len(sent) - 1 in empty and not delimiter
        page = bucket(prefix=prefix, delimiter=delimiter, start_after=start_after, token=token)
        return Page([], (), token or start_after or "p") if is_empty else page

    assert [item.key for item in list_side_by_side(request, "p/")] == sorted(keys)


def test_folders_beside_the_prefix_are_not_asked_for():
    bucket = Bucket({f"{folder}/{number:03}" for folder in "pqr" for number in range(40)})
    assert len(side_by_side(bucket, "p/")) == 40
    assert bucket.requests == {"objects": 40 / PAGE}


def test_small_folders_are_listed_together():
    bucket = Bucket({f"p/{folder:03}/{number}" for folder in range(100) for number in range(2)})
    assert len(side_by_side(bucket, "p/")) == 200
    assert bucket.requests["objects"] <= 1.6 * 200 / PAGE


def test_tiny_folders_are_listed_flat():
    bucket = Bucket({f"p/{number:03}/a" for number in range(100)})
    assert len(side_by_side(bucket, "p/")) == 100
    assert bucket.requests == {"objects": 100 / PAGE}


def listing_xml(inner: str, space: str = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"') -> bytes:
    return f"<?xml version='1.0'?><ListBucketResult{space}>{inner}</ListBucketResult>".encode()


@pytest.mark.parametrize("space", ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'])
def test_a_page_is_parsed_with_and_without_a_namespace(space):
    item = "<Contents><Key>a%2Bb+c%25</Key><Size>3</Size><ETag>&quot;x&quot;</ETag><StorageClass/></Contents>"
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    folders = "<CommonPrefixes><Prefix>f%2F</Prefix></CommonPrefixes>"
    page = parse_page(listing_xml(f"<EncodingType>url</EncodingType>{more}{item}{folders}", space))
    assert page == Page([Listed("a+b c%", 3, '"x"')], ("f/",), "t")


def test_keys_of_a_server_that_does_not_encode_them_are_literal():
    item = "<Contents><Key>a%2Bb+c</Key><Size>3</Size><ETag>x</ETag></Contents>"
    assert parse_page(listing_xml(item)).objects == [Listed("a%2Bb+c", 3, "x")]


def test_a_listing_of_nothing_is_empty():
    assert parse_page(listing_xml("<Name>b</Name><IsTruncated>false</IsTruncated>")) == Page([])


@pytest.mark.parametrize("page", [b"<html><body>Console</body></html>", b"<p/>"])
def test_a_web_page_is_no_listing(page):
    with pytest.raises(NotS3Error, match="not an S3 listing"):
        parse_page(page)


@pytest.mark.parametrize("token", ["", "<NextContinuationToken/>", "<NextMarker>a</NextMarker>"])
def test_a_page_without_a_way_to_the_next_is_not_the_last(token):
    item = "<Contents><Key>a</Key><Size>3</Size></Contents>"
    with pytest.raises(NotS3Error, match="breaks off"):
        parse_page(listing_xml(f"<IsTruncated>true</IsTruncated>{token}{item}"))


def test_a_size_that_is_not_a_number_is_an_error_of_the_server():
    with pytest.raises(NotS3Error, match="not a number"):
        parse_page(listing_xml("<Contents><Key>a</Key><Size/></Contents>"))


def test_an_error_with_status_200_may_pass():
    with pytest.raises(OSError, match="internal error") as caught:
        parse_page(b"<Error><Code>InternalError</Code><Message>internal error</Message></Error>")
    assert (s3_code(caught.value), is_transient(caught.value)) == ("InternalError", True)


def test_a_token_that_leads_to_its_own_page_ends_the_listing(monkeypatch):
    page = listing_xml("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>")
    requests = SimpleNamespace(list_page=lambda _: page)
    monkeypatch.setattr(s3_listing, "s3_requests", lambda *_: requests)
    assert request_page(None, "bucket", prefix="").token == "t"
    with pytest.raises(NotS3Error, match="does not end"):
        list(list_flat(partial(request_page, None, "bucket"), ""))


@pytest.mark.parametrize("page", [b"", b"<!DOCTYPE html><p>Console", b"\xff"])
def test_what_is_not_xml_is_no_listing(page):
    with pytest.raises(ResponseParserError, match="not XML"):
        parse_page(page)
