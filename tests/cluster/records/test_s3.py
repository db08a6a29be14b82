from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import SourceError
from cluster.errors import ChangedError
from cluster.records import Shard, open_source, pick, read_shard, streams
from cluster.storage import s3_listing
from tests.cluster.records.archives import contents_of, records_of, tar_bytes
from tests.cluster.records.s3_server import PAGE, S3Server, s3_server


@pytest.fixture(scope="module")
def running_server():
    with s3_server() as server:
        yield server


@pytest.fixture
def server(running_server):
    running_server.reset()
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


def test_a_tar_that_is_replaced_while_it_is_read_is_not_mixed(server, monkeypatch):
    monkeypatch.setattr(streams, "BUFFER_BYTES", 1 << 16)  # So that not all of it is read ahead.
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


def zip_bytes(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def gets(server: S3Server) -> int:
    return sum(method == "GET" and "list-type=2" not in path for method, path in server.requests)


def shards_of(server: S3Server, uri: str, **options: int) -> list[Shard]:
    """List an archive, and forget the requests so far."""
    shards = list(open_source(uri, storage=server.storage, **options).shards())
    server.requests.clear()
    return shards


def test_a_tar_is_read_in_few_large_requests(server):
    members = [(f"{number}.jpg", bytes([number]) * (1 << 20)) for number in range(20)]
    server.objects["0.tar"] = tar_bytes(members)
    (shard,) = shards_of(server, "s3://bucket/0.tar")
    assert [record.data for record in read_shard(shard)] == [data for _, data in members]
    assert gets(server) == -(-len(server.objects["0.tar"]) // streams.BUFFER_BYTES)


def test_neighbours_in_a_zip_are_read_in_one_request(server):
    members = {f"{number:03}.jpg": bytes([number]) * 5000 for number in range(100)}
    server.objects["0.zip"] = zip_bytes(members)
    shards = shards_of(server, "s3://bucket/0.zip", shard_records=20)
    read = [record for shard in shards for record in read_shard(shard)]
    assert {record.key: record.data for record in read} == members
    assert gets(server) == len(shards) > 2


def test_members_far_apart_in_a_zip_are_read_by_themselves(server):
    members = {f"{number:03}.jpg": bytes([number]) * 400_000 for number in range(40)}
    server.objects["0.zip"] = zip_bytes(members)
    (shard,) = shards_of(server, "s3://bucket/0.zip")
    read = list(pick(shard, [0, 30]))
    assert [record.data for record in read] == [members["000.jpg"], members["030.jpg"]]
    assert gets(server) == 2


def test_the_rows_of_a_table_take_a_request_for_each_column(server, tmp_path):
    images = [bytes([number % 256]) * 3000 for number in range(400)]
    rows = {"key": [f"{number:04}" for number in range(400)], "image": images}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet", row_group_size=100, compression="none", use_dictionary=False)
    server.objects["t.parquet"] = (tmp_path / "t.parquet").read_bytes()
    shards = shards_of(server, "s3://bucket/t.parquet", shard_records=100)
    read = [record for shard in shards for record in read_shard(shard)]
    assert [(record.key, record.data) for record in read] == list(zip(rows["key"], rows["image"], strict=True))
    assert gets(server) == 2 * len(shards)


def test_a_table_that_changes_between_two_shards_is_not_mixed(server, tmp_path):
    for name, letter in (("old", b"o"), ("new", b"n")):
        pq.write_table(pa.table({"image": [letter * 3000] * 40}), tmp_path / name, row_group_size=20)
    server.objects["t.parquet"] = (tmp_path / "old").read_bytes()
    first, second = shards_of(server, "s3://bucket/t.parquet", shard_records=20)
    assert {record.data for record in read_shard(first)} == {b"o" * 3000}
    server.objects["t.parquet"] = (tmp_path / "new").read_bytes()
    with pytest.raises(ChangedError, match=r"t.parquet changed since it was listed; run again"):
        list(read_shard(second))


def test_two_shards_are_read_at_the_same_time(server):
    contents = fill(server, 40)
    shards = shards_of(server, "s3://bucket/photos", shard_records=10)
    with ThreadPoolExecutor(4) as threads:
        read = [record for records in threads.map(lambda shard: list(read_shard(shard)), shards) for record in records]
    assert {record.key: record.data for record in read} == contents


def test_many_objects_are_requested_at_a_time(server):
    fill(server, 200)
    (shard,) = shards_of(server, "s3://bucket/photos", shard_records=1000)
    server.latency_s, server.most_at_once = 0.02, 0
    assert len(list(read_shard(shard, threads=1))) == 200
    assert server.most_at_once > 8


def test_an_archive_travels_to_another_process(server):
    contents = fill(server, 10)
    shards = shards_of(server, "s3://bucket/photos", shard_records=5)
    list(read_shard(shards[0]))
    code = "import pickle, sys; from cluster.records import read_shard; "
    code += "print([r.data for s in pickle.loads(bytes.fromhex(sys.argv[1])) for r in read_shard(s)])"
    words = [sys.executable, "-c", code, pickle.dumps(shards).hex()]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([contents[key] for key in sorted(contents, key=str.encode)])


def test_large_folders_are_listed_side_by_side_in_the_order_of_the_disk(server, tmp_path, monkeypatch):
    monkeypatch.setattr(s3_listing, "MIN_FOLDER_OBJECTS", 1)
    monkeypatch.setattr(s3_listing, "RANGE_OBJECTS", 2)
    for folder in ("a", "a-b", "a/c", "b", "é x+&", "z"):
        for number in range(2 * PAGE + 3):
            data = f"{folder} {number}".encode()
            server.objects[f"photos/{folder}/{number:02}.jpg"] = data
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / f"{number:02}.jpg").write_bytes(data)
    assert records_of("s3://bucket/photos", storage=server.storage) == records_of(tmp_path)
    assert any("start-after" in path and "delimiter" in path for _, path in server.requests)
