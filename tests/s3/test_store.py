"""Objects on a real S3 server are whole or absent, and take few requests, with and without faults."""

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
"""The smallest part that S3 accepts, in bytes."""


def test_an_object_exists_from_put_to_delete(bucket):
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


def test_a_listing_is_one_request_for_a_thousand_objects(bucket):
    paths = sorted(f"{folder}/{index % 7}/{index:04}" for folder in "ab" for index in range(550))
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda path: bucket.store("run").put(path, b""), paths))
    bucket.store().put("run2/beside", b"")
    with bucket.through() as (near, proxy):
        store = near.store("run")
        assert list(store.list()) == paths
        assert list(store.list("a")) == [path for path in paths if path.startswith("a/")]
        assert store.sizes() == dict.fromkeys(paths, 0)
        assert list(store.list("missing")) == []
        assert proxy.count()["LIST"] == 2 + 1 + 2 + 1


def test_folders_are_listed_with_one_request(bucket):
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


def test_one_of_many_concurrent_writers_creates(bucket):
    store = bucket.store()
    for round_ in range(5):
        with ThreadPoolExecutor(8) as threads:
            won = list(threads.map(lambda i, r=round_: store.put_if_absent(f"lease/{r}", b"%d" % i), range(8)))
        assert sum(won) == 1
        assert store.get(f"lease/{round_}") == b"%d" % won.index(True)


@pytest.mark.parametrize("fault", ["slow_down", "reset_before", "reset_after", "truncated"])
def test_every_operation_survives_transient_faults(bucket, fault):
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


def test_a_create_whose_responses_were_lost_succeeds(bucket):
    for lost in (1, 2, 3):
        with bucket.through(Plan(reset_after=1.0, at_most=lost)) as (near, _):
            store = replace(near.store(), retry=Retry(first_delay_s=0.01))
            assert store.put_if_absent(f"{lost}", b"mine")
            assert not store.put_if_absent(f"{lost}", b"yours")


def test_one_writer_creates_on_a_server_without_conditional_writes(bucket):
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
        proxy.dropped_headers = frozenset({"if-none-match"})
        store = Store(near.url("run"), storage=replace(near.storage, anonymous=True))
        for round_ in range(3):
            with ThreadPoolExecutor(4) as threads:
                won = list(threads.map(lambda i, r=round_: store.put_if_absent(f"lease/{r}", b"%d" % i), range(4)))
            assert sum(won) == 1
            assert store.get(f"lease/{round_}") == b"%d" % won.index(True)
        assert list(store.list()) == ["lease/0", "lease/1", "lease/2"]


def test_only_one_layer_retries_a_refused_request(bucket):
    with bucket.through(Plan(slow_down=1.0, at_most=1000)) as (near, proxy):
        naps = []
        retry = Retry(deadline_s=20.0, clock=lambda: sum(naps), sleep=naps.append)
        with pytest.raises(StorageError, match=r"could not read s3://.*SlowDown.*run again to resume"):
            replace(near.store(), retry=retry).get("a")
        assert len(proxy.requests) == len(naps) + 1


def multipart_objects(near, **retry):
    filesystem, root = open_filesystem(near.url(), near.storage)
    return S3Objects(filesystem, root, Retry(first_delay_s=0.01, **retry), part_bytes=PART)


def incomplete_uploads(bucket):
    filesystem, _ = open_filesystem(bucket.url(), bucket.storage)
    return filesystem.call_s3("list_multipart_uploads", Bucket=bucket.name).get("Uploads", [])


def test_a_large_object_is_sent_in_parts_and_appears_whole(bucket):
    data = os.urandom(2 * PART + 12345)
    with bucket.through(Plan(slow_down=1.0, only="partNumber=2", at_most=1)) as (near, proxy):
        with pytest.raises(OSError, match="rate"):  # A store would retry.
            multipart_objects(near, deadline_s=0.0).write("large", data)
        assert list(bucket.store().list()) == []
        proxy.plan = None
        multipart_objects(near).write("large", data)
        assert bucket.store().get("large") == data
        assert proxy.count() == {"UPLOAD": 2, "PART": 6, "ABORT": 1, "COMPLETE": 1}
    assert not incomplete_uploads(bucket)


def test_only_the_failed_part_is_sent_again(bucket):
    data = os.urandom(3 * PART)
    with bucket.through(Plan(slow_down=1.0, only="uploadId", at_most=2)) as (near, proxy):
        multipart_objects(near).write("large", data)
        assert bucket.store().get("large") == data
        assert proxy.count() == {"UPLOAD": 1, "PART": 9, "COMPLETE": 3}
    assert not incomplete_uploads(bucket)


@pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
def test_an_upload_whose_responses_were_lost_is_complete(bucket, fault):
    data = os.urandom(2 * PART)
    for lost in (1, 2, 3):
        with bucket.through(Plan(**{fault: 1.0}, only="uploadId", at_most=lost)) as (near, _):
            multipart_objects(near).write(f"{lost}", data)
            assert bucket.store().get(f"{lost}") == data
    assert not incomplete_uploads(bucket)


def test_an_upload_lost_by_the_server_is_a_transient_error(bucket, monkeypatch):
    """A lifecycle rule for incomplete uploads has this effect. Ceph reports another error for an aborted upload."""
    objects = multipart_objects(bucket)
    call = objects._call

    def without_upload(method, **arguments):
        if method == "complete_multipart_upload":
            raise FileNotFoundError
        return call(method, **arguments)

    monkeypatch.setattr(objects, "_call", without_upload)
    bucket.store().put("large", bytes(2 * PART))
    with pytest.raises(OSError, match="multipart upload no longer exists") as caught:
        objects.write("large", os.urandom(2 * PART))
    assert is_transient(caught.value)
    assert not incomplete_uploads(bucket)


def without_retries(store):
    return replace(store, retry=Retry(deadline_s=0.0))


def test_a_missing_bucket_is_an_error(bucket):
    store = Store("s3://no-such-bucket/run", storage=bucket.storage)
    checks = (store.check_access, lambda: list(store.list()))
    for operation in (*checks, lambda: store.put("a", b""), lambda: store.get("a")):
        with pytest.raises(StorageError, match=r"s3://no-such-bucket.*NoSuchBucket.*does not exist.*\[storage\]"):
            operation()


def test_missing_and_wrong_credentials_have_different_messages(bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    elsewhere = replace(bucket.storage, region="elsewhere")  # So that another file system is opened.
    with pytest.raises(StorageError, match=r"SignatureDoesNotMatch.*AWS_SECRET_ACCESS_KEY") as caught:
        Store(bucket.url(), storage=elsewhere).check_access()
    assert "another" not in str(caught.value)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StorageError, match=r"No credentials found: set AWS_ACCESS_KEY_ID"):
        Store(bucket.url(), storage=replace(bucket.storage, region="nowhere")).check_access()


def test_anonymous_access_to_a_private_bucket_is_refused(bucket):
    with pytest.raises(PermissionError, match=rf"could not reach s3://{bucket.name}.*AccessDenied.*do not allow"):
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


def test_an_endpoint_without_a_server_is_named(bucket):
    storage = Storage(endpoint="http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"cannot connect to http://127.0.0.1:9: .*refused"):
        storage.check_endpoint()
    with pytest.raises(StorageError, match=r"Could not connect to the endpoint URL.*127.0.0.1:9"):
        without_retries(Store(bucket.url(), storage=storage)).check_access()
