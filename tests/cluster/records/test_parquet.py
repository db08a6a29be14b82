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


@pytest.mark.parametrize("name", ["webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "jxl", "image_bytes", "JPG"])
def test_bytes_are_preferred_to_urls(tmp_path, name):
    table = write_table(tmp_path / "t.parquet", {"url": ["https://host/a.jpg"], "caption": ["x"], name: [b"1"]})
    assert contents_of(table) == {"t/0": b"1"}


@pytest.mark.parametrize("name", ["image_url", "image_uri", "img_path", "file_path", "filepath", "URL", "Path"])
def test_more_names_of_paths_are_known(tmp_path, name):
    write_folder(tmp_path, {"a.jpg": b"1"})
    assert list(contents_of(write_table(tmp_path / "t.parquet", {name: ["a.jpg"]})).values()) == [b"1"]


def test_the_only_struct_of_bytes_and_path_is_found_under_any_name(tmp_path):
    photos = pa.array([{"bytes": b"1", "path": "a.jpg"}], STRUCT)
    table = write_table(tmp_path / "t.parquet", {"path": ["elsewhere.jpg"], "photo": photos})
    assert contents_of(table, columns=Columns(key="path")) == {"elsewhere.jpg": b"1"}
    table = write_table(tmp_path / "t.parquet", {"photo": photos, "mask": photos})
    with pytest.raises(SourceError, match="no column of images"):
        open_source(str(table))


def structs(*paths):
    return pa.array([{"bytes": b"%d" % row, "path": path} for row, path in enumerate(paths)], STRUCT)


@pytest.mark.parametrize(
    "paths", [["image.jpg"] * 6, ["1.jpg", "2.jpg", "3.jpg"] * 2, ["a.jpg", None, "b.jpg", "c.jpg", None, "a.jpg"]]
)
@pytest.mark.parametrize("group", [2, 3, 6])
def test_rows_are_numbered_where_paths_do_not_tell_them_apart(tmp_path, paths, group):
    table = write_table(tmp_path / "t.parquet", {"image": structs(*paths)}, row_group_size=group)
    assert contents_of(table) == {f"t/{row}": b"%d" % row for row in range(6)}
    assert list(contents_of(table, shard_records=1)) == [f"t/{row}" for row in range(6)]


def test_a_column_whose_values_repeat_is_no_key_unless_it_is_named(tmp_path):
    columns = {"image": structs("a.jpg", "b.jpg"), "id": [7, 7], "name": ["cat", "cat"]}
    table = write_table(tmp_path / "t.parquet", columns)
    assert list(contents_of(table)) == ["a.jpg", "b.jpg"]
    assert [record.key for record in records_of(table, columns=Columns(key="name"))] == ["cat", "cat"]
    write_table(table, columns | {"filename": ["x", "y"]})
    assert list(contents_of(table)) == ["x", "y"]
    write_table(table, {"image": [b"1", b"2"], "name": ["cat", "cat"]})
    assert list(contents_of(table)) == ["t/0", "t/1"]


def test_a_path_that_occurs_twice_names_its_image_twice(tmp_path):
    write_folder(tmp_path, {"a.jpg": b"1"})
    table = write_table(tmp_path / "t.parquet", {"path": ["a.jpg", "a.jpg"]})
    assert [record.key for record in records_of(table)] == ["a.jpg", "a.jpg"]


def test_paths_that_cannot_be_compared_are_a_reason_each(tmp_path):
    keys = pa.array([b"\xff", b"\xff"], pa.binary()).view(pa.string())
    table = write_table(tmp_path / "t.parquet", {"key": keys, "image": [b"1", b"2"]})
    assert contents_of(table) == {"t/0": "the key is not UTF-8", "t/1": "the key is not UTF-8"}


def test_a_file_called_a_table_is_named_for_what_it_is(tmp_path):
    write_table(tmp_path / "1.pq", {"image": [b"1"]})
    write_folder(tmp_path, {"0.parquet": b"\x1f\x8b" + bytes(20)})
    assert contents_of(tmp_path) == {"0.parquet": "packed with gzip, not a Parquet file", "1/0": b"1"}


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
        b"2", b"1", b"1", b"1", f"not found in {tmp_path}/tables, the folder of the table", "a folder, not a file",
        "no image: null", "no image: empty path",
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


def test_a_file_that_changes_behind_its_path_changes_the_shard_that_names_it(tmp_path):
    table = write_table(tmp_path / "t.parquet", {"path": ["a b.jpg", "a%20b.jpg", None, "gone.jpg", "http://x/a.jpg"]})
    names = set()
    for content in (b"1", b"22"):
        write_folder(tmp_path, {"a b.jpg": content})
        names |= {shard.fingerprint for shard in open_source(str(table)).shards() for _ in range(2)}
    assert len(names) == 2


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
