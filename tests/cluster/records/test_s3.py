from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import SourceError
from cluster.errors import ChangedError
from cluster.records import open_source, read_shard
from tests.cluster.records.archives import contents_of, records_of, tar_bytes
from tests.cluster.records.s3_server import PAGE, S3Server, s3_server


@pytest.fixture(scope="module")
def running_server():
    with s3_server() as server:
        yield server


@pytest.fixture
def server(running_server):
    running_server.objects.clear()
    running_server.forbidden.clear()
    running_server.listed_tag = None
    return running_server


def fill(server: S3Server, count: int) -> dict[str, bytes]:
    contents = {f"{number % 3}/{number:03d} é+&.jpg": b"%d" % number for number in range(count)}
    server.objects |= {f"photos/{key}": data for key, data in contents.items()}
    return contents


def test_a_bucket_is_listed_page_by_page_while_it_is_read(server):
    contents = fill(server, 5 * PAGE)
    server.objects |= {"photos/": b"", "photos/1/": b"", "photos/a.txt": b"", "photos/.x/a.jpg": b"", "photos2/a": b""}
    source = open_source("s3://bucket/photos", storage=server.storage, shard_records=4)
    server.requests.clear()
    shards = source.shards()
    read = list(read_shard(next(shards)))
    assert sum("list-type=2" in path for _, path in server.requests) <= 2
    read += [record for shard in shards for record in read_shard(shard)]
    assert [record.key for record in read] == sorted(contents, key=str.encode)
    assert {record.key: record.data for record in read} == contents
    assert source.skipped.count == 2


def test_a_whole_bucket_is_an_archive(server):
    server.objects["a.jpg"] = b"1"
    assert contents_of("s3://bucket", storage=server.storage) == {"a.jpg": b"1"}


def test_the_order_and_keys_are_those_of_the_same_folder_on_disk(server, tmp_path):
    for key, data in fill(server, 20).items():
        (tmp_path / key).parent.mkdir(exist_ok=True)
        (tmp_path / key).write_bytes(data)
    assert records_of("s3://bucket/photos/", storage=server.storage) == records_of(tmp_path)


def test_a_new_etag_renames_the_shard(server):
    fill(server, 3)
    source = open_source("s3://bucket/photos", storage=server.storage)
    (before,) = source.shards()
    server.objects["photos/0/000 é+&.jpg"] = b"x"
    (after,) = source.shards()
    assert after.fingerprint != before.fingerprint


def test_what_is_gone_or_forbidden_becomes_a_reason(server):
    server.objects |= {"r/a.jpg": b"1", "r/b.jpg": b"2", "r/c.jpg": b"3"}
    (shard,) = open_source("s3://bucket/r", storage=server.storage).shards()
    server.forbidden.add("r/a.jpg")
    del server.objects["r/b.jpg"]
    assert [record.error for record in read_shard(shard)] == ["permission denied", "not found", None]


def test_tars_and_tables_are_read_from_a_bucket(server, tmp_path):
    pq.write_table(pa.table({"path": ["img/a.jpg", "s3://bucket/t/img/a.jpg"], "id": [1, 2]}), tmp_path / "t.parquet")
    server.objects |= {
        "w/0.tar": tar_bytes([("a.jpg", b"1")]),
        "w/1.tar.gz": tar_bytes([("b.jpg", b"2")], mode="w:gz"),
        "t/t.parquet": (tmp_path / "t.parquet").read_bytes(),
        "t/img/a.jpg": b"3",
    }
    options = {"storage": server.storage}
    assert contents_of("s3://bucket/w", **options) == {"a.jpg": b"1", "b.jpg": b"2"}
    assert contents_of("s3://bucket/w/*.tar", **options) == {"a.jpg": b"1"}
    assert contents_of("s3://bucket/w/1.tar.gz", **options) == {"b.jpg": b"2"}
    assert contents_of("s3://bucket/t/t.parquet", **options) == {"1": b"3", "2": b"3"}


@pytest.mark.parametrize("uri", ["s3://bucket/nothing", "s3://bucket/nothing.tar", "s3://bucket/*.tar"])
def test_a_place_with_nothing_in_it_is_refused(server, uri):
    with pytest.raises(SourceError, match="expected a folder of images"):
        open_source(uri, storage=server.storage)


def test_a_key_is_read_as_it_is_whatever_it_looks_like(server):
    keys = ["a.jpg", "a.jpg?versionId=3", "b?c#d.jpg", "%41.jpg", "/lead.jpg", "e//f.jpg", "end .jpg ", "*[x]?.jpg"]
    server.objects |= {f"photos/{key}": key.encode() for key in keys}
    assert contents_of("s3://bucket/photos", storage=server.storage) == {key: key.encode() for key in keys}


def test_an_object_that_changed_since_it_was_listed_is_not_read(server):
    server.objects |= {"photos/a.jpg": b"1", "photos/b.jpg": b"2"}
    (shard,) = open_source("s3://bucket/photos", storage=server.storage).shards()
    server.objects["photos/a.jpg"] = b"another"
    outcomes = [(record.data, record.error) for record in read_shard(shard)]
    assert outcomes == [(None, "changed since it was listed; run again"), (b"2", None)]


def test_a_tar_that_is_replaced_while_it_is_read_is_not_mixed(server):
    old, new = (tar_bytes((f"{i}.jpg", char * (3 << 20)) for i in range(4)) for char in (b"o", b"n"))
    server.objects["0.tar"] = old
    (shard,) = open_source("s3://bucket/0.tar", storage=server.storage).shards()
    records = read_shard(shard)
    assert set(next(records).data) == set(b"o")
    server.objects["0.tar"] = new
    with pytest.raises(ChangedError, match=r"0.tar changed since it was listed; run again"):
        list(records)


def test_a_server_whose_listing_tells_other_tags_is_read(server):
    server.objects["a.jpg"] = b"1"
    server.listed_tag = "another"
    assert contents_of("s3://bucket", storage=server.storage) == {"a.jpg": b"1"}
