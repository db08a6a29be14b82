"""Objects on a real S3 server: whole or absent, in few requests, whatever happens on the way."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from cluster import Retry, Storage, StorageError, Store
from cluster.storage.error_classes import is_transient
from cluster.storage.filesystems import open_filesystem
from cluster.storage.s3 import S3Objects
from tests.s3.proxy import Plan

pytestmark = pytest.mark.s3

PART = 5 << 20
"""The least that S3 takes for a part."""


def test_what_was_put_is_there_until_it_is_deleted(bucket):
    store = bucket.store("a/run")
    assert not store.exists("f/b.bin")
    store.put("f/b.bin", b"first")
    store.put("f/b.bin", b"second!")
    assert (store.get("f/b.bin"), store.size("f/b.bin"), store.exists("f/b.bin")) == (b"second!", 7, True)
    assert not store.exists("f")
    store.delete("f/b.bin")
    store.delete("f/b.bin")
    with pytest.raises(FileNotFoundError):
        store.get("f/b.bin")


def test_each_operation_is_one_request(bucket):
    with bucket.through() as (near, proxy):
        store = near.store("run")
        store.put("f/é x+&.bin", b"1")
        store.get("f/é x+&.bin")
        store.exists("f/é x+&.bin")
        store.exists("f/missing")
        list(store.list("f"))
        store.delete("f/é x+&.bin")
        store.check_access()
        assert proxy.count() == {"PUT": 1, "GET": 1, "HEAD": 2, "LIST": 2, "DELETE": 1}


def test_a_listing_is_one_request_for_a_thousand_objects_at_any_depth(bucket):
    paths = sorted(f"{folder}/{index % 7}/{index:04}" for folder in "ab" for index in range(550))
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda path: bucket.store("run").put(path, b""), paths))
    bucket.store().put("run2/beside", b"")
    with bucket.through() as (near, proxy):
        store = near.store("run")
        assert list(store.list()) == paths
        assert list(store.list("a")) == [path for path in paths if path.startswith("a/")]
        assert list(store.list("missing")) == []
        assert proxy.count()["LIST"] == 2 + 1 + 1


def test_the_folders_of_a_folder_are_told_in_one_request_for_a_thousand(bucket):
    paths = ["b/c/deep/er", "b/c/deeper", "b/d/1", "b/é x+&/1", "b/file", "c/1"]
    for path in paths:
        bucket.store("run").put(path, b"")
    bucket.store().put("run2/beside/it", b"")
    with bucket.through() as (near, proxy):
        store = near.store("run")
        assert list(store.folders("b")) == ["b/c", "b/d", "b/é x+&"]
        assert list(store.folders()) == ["b", "c"]
        assert list(store.folders("missing")) == []
        assert proxy.count() == {"LIST": 3}


def test_of_many_writers_at_once_one_creates(bucket):
    store = bucket.store()
    for round_ in range(5):
        with ThreadPoolExecutor(8) as threads:
            won = list(threads.map(lambda i, r=round_: store.put_if_absent(f"lease/{r}", b"%d" % i), range(8)))
        assert sum(won) == 1
        assert store.get(f"lease/{round_}") == b"%d" % won.index(True)


@pytest.mark.parametrize("fault", ["slow_down", "reset_before", "reset_after", "truncated"])
def test_every_operation_survives_trouble_that_passes(bucket, fault):
    with bucket.through(Plan(**{fault: 1.0}, at_most=2)) as (near, proxy):
        store = replace(near.store("run"), retry=Retry(first_delay_s=0.01))
        store.put("a", b"0123456789" * 1000)
        assert store.put_if_absent("b", b"mine")
        assert not store.put_if_absent("b", b"yours")
        assert store.get("a") == b"0123456789" * 1000
        assert store.size("a") == 10_000
        assert list(store.list()) == ["a", "b"]
        store.delete("b")
        assert list(bucket.store("run").list()) == ["a"]
        assert proxy.faults()[fault] >= 4


def test_a_creation_whose_answer_is_lost_once_or_often_knows_its_own_object(bucket):
    for lost in (1, 2, 3):
        with bucket.through(Plan(reset_after=1.0, at_most=lost)) as (near, _):
            store = replace(near.store(), retry=Retry(first_delay_s=0.01))
            assert store.put_if_absent(f"{lost}", b"mine")
            assert not store.put_if_absent(f"{lost}", b"yours")


def test_of_many_writers_one_creates_on_a_server_that_knows_no_conditions(bucket):
    policy = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket.name}{end}" for end in ("", "/*")],
    }
    filesystem, _ = open_filesystem(bucket.url(), bucket.storage)
    filesystem.call_s3(
        "put_bucket_policy", Bucket=bucket.name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [policy]})
    )
    with bucket.through() as (near, proxy):
        proxy.deaf_to = frozenset({"if-none-match"})
        store = Store(near.url("run"), storage=replace(near.storage, anonymous=True))
        for round_ in range(3):
            with ThreadPoolExecutor(4) as threads:
                won = list(threads.map(lambda i, r=round_: store.put_if_absent(f"lease/{r}", b"%d" % i), range(4)))
            assert sum(won) == 1
            assert store.get(f"lease/{round_}") == b"%d" % won.index(True)
        assert list(store.list()) == ["lease/0", "lease/1", "lease/2"]


def test_a_request_that_is_refused_is_sent_again_by_one_layer_only(bucket):
    with bucket.through(Plan(slow_down=1.0, at_most=1000)) as (near, proxy):
        naps = []
        retry = Retry(deadline_s=20.0, clock=lambda: sum(naps), sleep=naps.append)
        with pytest.raises(StorageError, match=r"could not read s3://.*SlowDown.*run again to resume"):
            replace(near.store(), retry=retry).get("a")
        assert len(proxy.requests) == len(naps) + 1


def in_parts(near, **retry):
    filesystem, root = open_filesystem(near.url(), near.storage)
    return S3Objects(filesystem, root, Retry(first_delay_s=0.01, **retry), part_bytes=PART)


def uploads_left(bucket):
    filesystem, _ = open_filesystem(bucket.url(), bucket.storage)
    return filesystem.call_s3("list_multipart_uploads", Bucket=bucket.name).get("Uploads", [])


def test_a_large_object_is_sent_in_parts_and_appears_whole(bucket):
    data = os.urandom(2 * PART + 12345)
    with bucket.through(Plan(slow_down=1.0, only="partNumber=2", at_most=1)) as (near, proxy):
        with pytest.raises(OSError, match="rate"):  # A store would try again by itself.
            in_parts(near, deadline_s=0.0).write("large", data)
        assert list(bucket.store().list()) == []
        proxy.plan = None
        in_parts(near).write("large", data)
        assert bucket.store().get("large") == data
        assert proxy.count() == {"UPLOAD": 2, "PART": 6, "ABORT": 1, "COMPLETE": 1}
    assert not uploads_left(bucket)


def test_a_part_that_fails_costs_only_itself_to_send_again(bucket):
    data = os.urandom(3 * PART)
    with bucket.through(Plan(slow_down=1.0, only="uploadId", at_most=2)) as (near, proxy):
        in_parts(near).write("large", data)
        assert bucket.store().get("large") == data
        assert proxy.count() == {"UPLOAD": 1, "PART": 9, "COMPLETE": 3}
    assert not uploads_left(bucket)


@pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
def test_an_upload_whose_answers_are_lost_arrives_and_leaves_nothing_behind(bucket, fault):
    data = os.urandom(2 * PART)
    for lost in (1, 2, 3):
        with bucket.through(Plan(**{fault: 1.0}, only="uploadId", at_most=lost)) as (near, _):
            in_parts(near).write(f"{lost}", data)
            assert bucket.store().get(f"{lost}") == data
    assert not uploads_left(bucket)


def test_an_upload_that_the_server_forgot_is_begun_anew(bucket, monkeypatch):
    """As a rule for incomplete uploads makes it. Ceph says something else of an upload that was aborted."""
    objects = in_parts(bucket)
    call = objects._call

    def forgetful(method, **arguments):
        if method == "complete_multipart_upload":
            raise FileNotFoundError
        return call(method, **arguments)

    monkeypatch.setattr(objects, "_call", forgetful)
    bucket.store().put("large", bytes(2 * PART))
    with pytest.raises(OSError, match="upload in parts is gone") as caught:
        objects.write("large", os.urandom(2 * PART))
    assert is_transient(caught.value)
    assert not uploads_left(bucket)


def at_once(store):
    return replace(store, retry=Retry(deadline_s=0.0))


def test_a_bucket_that_is_not_there_is_no_empty_one(bucket):
    store = Store("s3://no-such-bucket/run", storage=bucket.storage)
    for operation in (
        store.check_access,
        lambda: list(store.list()),
        lambda: store.put("a", b""),
        lambda: store.get("a"),
    ):
        with pytest.raises(StorageError, match=r"s3://no-such-bucket.*NoSuchBucket.*no such bucket.*\[storage\]"):
            operation()


def test_missing_and_wrong_credentials_are_told_apart(bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    elsewhere = replace(bucket.storage, region="elsewhere")  # A file system that was not opened yet.
    with pytest.raises(StorageError, match=r"SignatureDoesNotMatch.*AWS_SECRET_ACCESS_KEY") as caught:
        Store(bucket.url(), storage=elsewhere).check_access()
    assert "another" not in str(caught.value)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StorageError, match=r"No credentials: set AWS_ACCESS_KEY_ID"):
        Store(bucket.url(), storage=replace(bucket.storage, region="nowhere")).check_access()


def test_a_stranger_may_not_read_and_is_told_so(bucket):
    with pytest.raises(PermissionError, match=rf"could not reach s3://{bucket.name}.*AccessDenied.*may not do that"):
        Store(bucket.url(), storage=replace(bucket.storage, anonymous=True)).check_access()


def test_tls_needs_the_certificate_of_its_authority(bucket, s3_server):
    url, endpoint = bucket.url(), s3_server.secure_endpoint
    trusting = Storage(endpoint=endpoint, certificates=s3_server.ca_file.read_text())
    trusting.check_endpoint()
    store = Store(url, storage=trusting)
    store.put("a", b"over TLS")
    assert (store.put_if_absent("a", b""), bucket.store().get("a")) == (False, b"over TLS")
    with pytest.raises(StorageError, match=rf"TLS with {endpoint} failed.*ca_file"):
        Storage(endpoint=endpoint).check_endpoint()
    with pytest.raises(StorageError, match=r"SSLError.*ca_file"):
        Store(url, storage=Storage(endpoint=endpoint)).check_access()


def test_an_endpoint_where_nobody_listens_is_named(bucket):
    storage = Storage(endpoint="http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"nobody answers at http://127.0.0.1:9: .*refused"):
        storage.check_endpoint()
    with pytest.raises(StorageError, match=r"Could not connect to the endpoint URL.*127.0.0.1:9"):
        at_once(Store(bucket.url(), storage=storage)).check_access()
