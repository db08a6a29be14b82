from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import Retry, SourceError, StorageError
from cluster.records import Columns, open_source, read_shard, reading
from tests.cluster.faulty import fails, faults
from tests.cluster.records.archives import contents_of, records_of, write_folder

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_table(path: Path, columns: dict[str, object], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize("name", ["image", "img", "jpg", "png", "jpeg", "bytes", "content", "data"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_bytes_are_found_under_the_usual_names(tmp_path, name, kind):
    table = write_table(tmp_path / "t.parquet", {"other": [1, 2], name: pa.array([b"1", b"2"], kind)})
    assert contents_of(table) == {"t/0": b"1", "t/1": b"2"}


@pytest.mark.parametrize("name", ["key", "__key__", "id", "image_id", "path", "filename", "name"])
@pytest.mark.parametrize("values", [["x", "y"], [7, 8]])
def test_keys_are_found_under_the_usual_names(tmp_path, name, values):
    table = write_table(tmp_path / "t.parquet", {"image": [b"1", b"2"], name: values})
    assert contents_of(table) == {str(values[0]): b"1", str(values[1]): b"2"}


def test_keys_may_be_dictionary_encoded_or_missing_in_places(tmp_path):
    keys = pa.array(["x", None, "a\nb"]).dictionary_encode()
    table = write_table(tmp_path / "t.parquet", {"image": [b"1", b"2", b"3"], "key": keys})
    assert contents_of(table) == {"x": b"1", "t/1": b"2", "a\\nb": b"3"}


def test_structs_of_bytes_and_path_are_read(tmp_path):
    write_folder(tmp_path, {"images/c.jpg": b"3"})
    cells = [{"bytes": b"1", "path": "a.jpg"}, {"bytes": b"2", "path": None}, {"bytes": None, "path": "images/c.jpg"}]
    table = write_table(tmp_path / "t.parquet", {"image": pa.array([*cells, None], STRUCT)})
    assert contents_of(table) == {"a.jpg": b"1", "t/1": b"2", "images/c.jpg": b"3", "t/3": "no image: null"}


def test_paths_and_urls_are_followed(tmp_path):
    write_folder(tmp_path, {"a.jpg": b"1", "tables/b/b.jpg": b"2"})
    urls = ["b/b.jpg", "../a.jpg", str(tmp_path / "a.jpg"), f"file://{tmp_path}/a.jpg", "b/none.jpg", "b", None, ""]
    table = write_table(tmp_path / "tables" / "t.parquet", {"url": urls})
    assert list(contents_of(table).values()) == [
        b"2", b"1", b"1", b"1", "not found in the folder of the table", "a folder, not a file", "no image: null",
        "no image: empty path",
    ]  # fmt: skip


@pytest.mark.parametrize("url", ["ssh://user:secret@host/a.jpg", "zip://a.jpg::https://host/a.zip", "github://o:r@/a"])
def test_urls_that_could_do_more_than_read_are_refused_without_telling_secrets(tmp_path, url):
    (error,) = contents_of(write_table(tmp_path / "t.parquet", {"url": [url]})).values()
    assert error.startswith("unsupported kind of URL")
    assert "secret" not in error


def test_a_table_from_elsewhere_cannot_name_files_of_this_machine(tmp_path):
    secret = write_folder(tmp_path, {"secret.jpg": b"secret"}) / "secret.jpg"
    with faults() as filesystem:
        filesystem.pipe_file("/r/a.jpg", b"1")
        local = write_table(tmp_path / "t.parquet", {"url": [str(secret), f"file://{secret}", "a.jpg"]})
        filesystem.pipe_file("/r/t.parquet", local.read_bytes())
        values = list(contents_of("faulty://r/t.parquet").values())
    assert values == ["a local path in a table that is not local"] * 2 + [b"1"]


def test_a_referred_file_that_is_too_large_is_not_read(tmp_path):
    write_folder(tmp_path, {"a.jpg": b"12345"})
    table = write_table(tmp_path / "t.parquet", {"path": ["a.jpg"], "image": [b"123456"]})
    assert contents_of(table, max_bytes=5) == {"a.jpg": "too large: 6 bytes, at most 5 are read"}
    columns = Columns(image="path")
    assert contents_of(table, max_bytes=4, columns=columns) == {"a.jpg": "too large: 5 bytes, at most 4 are read"}


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(0, 200), group=st.integers(1, 90), target=st.integers(1, 50))
def test_shards_hold_every_row_once_in_order(tmp_path_factory, rows, group, target):
    table = tmp_path_factory.mktemp("t") / "t.parquet"
    write_table(table, {"image": pa.array([b"%d" % row for row in range(rows)], pa.binary())}, row_group_size=group)
    source = open_source(str(table), shard_records=target)
    shards = [pickle.loads(pickle.dumps(shard)) for shard in source.shards()]
    assert len({shard.fingerprint for shard in shards}) == len(shards)
    read = [list(read_shard(shard)) for shard in shards]
    assert [len(records) for records in read] == [shard.size for shard in shards]
    records = [record for part in read for record in part]
    assert [record.data for record in records] == [b"%d" % row for row in range(rows)]
    assert [record.key for record in records] == [f"t/{row}" for row in range(rows)]


def test_a_folder_and_a_glob_of_tables_are_archives(tmp_path):
    for name in ("a", "b", "sub/a"):
        write_table(tmp_path / f"{name}.parquet", {"image": [name.encode()]})
    write_folder(tmp_path, {"_SUCCESS": b"", "README.md": b"x"})
    assert contents_of(tmp_path) == {"a/0": b"a", "b/0": b"b", "sub/a/0": b"sub/a"}
    assert {record.source for record in records_of(tmp_path)} == {"a.parquet", "b.parquet", "sub/a.parquet"}
    assert contents_of(f"{tmp_path}/*.parquet") == {"a/0": b"a", "b/0": b"b"}


def test_a_table_without_images_is_refused_with_its_columns(tmp_path):
    table = write_table(tmp_path / "t.parquet", {"picture": [b"1"], "image": [3]})
    with pytest.raises(SourceError, match=r"picture \(binary\), image \(int64\)\. Name the image column"):
        open_source(str(table))
    assert contents_of(table, columns=Columns(image="picture")) == {"t/0": b"1"}
    for columns, message in (
        (Columns(image="photo"), "no column 'photo'"),
        (Columns(image="image"), "'image' of t.parquet is int64: expected binary"),
        (Columns(image="picture", key="picture"), "expected string or integer"),
    ):
        with pytest.raises(SourceError, match=message):
            open_source(str(table), columns=columns)


def test_tables_that_do_not_fit_the_others_are_a_reason_each(tmp_path):
    write_folder(tmp_path, {"0.parquet": b"PAR1 and no more", "3.parquet": b""})
    write_table(tmp_path / "1.parquet", {"image": [b"1"]})
    write_table(tmp_path / "2.parquet", {"img": [b"2"]})
    contents = contents_of(tmp_path)
    assert contents.pop("1/0") == b"1"
    assert contents["0.parquet"].startswith("damaged parquet file")
    assert contents["3.parquet"].startswith("damaged parquet file")
    assert "no column 'image'" in contents["2.parquet"]
    with pytest.raises(SourceError, match=r"0\.parquet: damaged parquet file"):
        open_source(str(tmp_path / "0.parquet"))


def test_a_damaged_page_costs_its_rows_and_no_other(tmp_path):
    images = [bytes([row]) * 500 for row in range(100)]
    options = {"row_group_size": 50, "use_dictionary": False, "compression": "none", "write_page_checksum": True}
    table = write_table(tmp_path / "t.parquet", {"image": images}, **options)
    data = bytearray(table.read_bytes())
    data[data.index(images[70])] ^= 1
    table.write_bytes(data)
    records = records_of(table, shard_records=50)
    assert [record.data for record in records[:50]] == images[:50]
    assert [record.key for record in records] == [f"t/{row}" for row in range(100)]
    assert all("CRC checksum" in (record.error or "") for record in records[50:])


def test_a_table_that_is_gone_costs_its_rows(tmp_path):
    table = write_table(tmp_path / "t.parquet", {"image": [b"1", b"2"]})
    (shard,) = open_source(str(table)).shards()
    table.unlink()
    assert [record.error for record in read_shard(shard)] == ["not found"] * 2


def test_storage_trouble_is_tried_again_and_then_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "RETRY", Retry(first_delay_s=0.001, deadline_s=0.5))
    table = write_table(tmp_path / "t.parquet", {"image": [b"1", b"2"]})
    with faults() as filesystem:
        filesystem.pipe_file("/r/t.parquet", table.read_bytes())
        (shard,) = open_source("faulty://r").shards()
        filesystem.plan["read"] = [fails(ConnectionResetError("cut"))]
        assert len(list(read_shard(shard))) == 2
        for healthy in (0, 1):  # in the footer, in the pages
            filesystem.plan["read"] = [None] * healthy + [fails(ConnectionResetError("cut"))] * 99
            with pytest.raises(StorageError, match=r"t\.parquet"):
                list(read_shard(shard))
