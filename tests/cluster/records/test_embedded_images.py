"""Images in cells of tables are read one by one, in any order, and identified by their contents."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.records import Selection, embedded_images, read_shard
from tests.cluster.records.archives import write_folder
from tests.cluster.records.s3_server import s3_server

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ROWS = 20


def write_images(path, contents, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": contents}), path, **options)


def read(selection, references):
    records = list(read_shard(selection.shard(selection.look_up(references))))
    assert [record.key for record in records] == references
    return [record.error if record.data is None else record.data for record in records]


@pytest.fixture
def selection(tmp_path):
    """Rows of two tables, with a few in each row group."""
    for name in ("a", "b"):
        data = [f"{name}{row}".encode() for row in range(1, ROWS + 1)]
        write_images(tmp_path / f"data/{name}.parquet", data, row_group_size=3)
    return Selection(str(tmp_path / "data"), image_column="image")


def test_rows_are_read_in_the_order_of_their_references(selection, monkeypatch):
    names = ["b.parquet#20", "a.parquet#1", "a.parquet#4", "b.parquet#2", "a.parquet#3", "a.parquet#1"]
    expected = [b"b20", b"a1", b"a4", b"b2", b"a3", b"a1"]
    assert read(selection, names) == expected
    monkeypatch.setattr(embedded_images, "BATCH", 2)
    assert read(selection, names) == expected


def test_structs_hold_bytes_or_a_path_beside_the_table(tmp_path):
    write_folder(tmp_path, {"t/images/c.jpg": b"3"})
    cells = [{"bytes": b"1", "path": "x"}, {"bytes": None, "path": "images/c.jpg"}, {"bytes": None, "path": None}, None]
    write_images(tmp_path / "t/t.parquet", pa.array(cells, STRUCT))
    names = [f"t.parquet#{row}" for row in range(1, 5)]
    selection = Selection(str(tmp_path / "t"), image_column="image")
    assert read(selection, names) == [b"1", b"3", "no image: null", "no image: null"]


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("a.parquet#21", "a.parquet has 20 rows, but row 21 is wanted"),
        ("a.parquet#0", "but row 0 is wanted"),
        ("a.parquet", "expected a table and a row"),
        ("a.parquet#x", "expected a table and a row"),
        ("c.parquet#1", "not found"),
        ("", "expected a table and a row"),
    ],
)
def test_a_reference_to_no_row_is_a_reason(selection, reference, reason):
    (found,) = read(selection, [reference])
    assert reason in found


def test_a_damaged_table_is_a_reason(selection, tmp_path):
    (tmp_path / "data/c.parquet").write_bytes(b"no table")
    found = read(selection, ["c.parquet#1", "a.parquet#1"])
    assert found[0].startswith("damaged parquet file")
    assert found[1] == b"a1"


def test_what_is_too_large_is_not_read(tmp_path):
    write_images(tmp_path / "t.parquet", [b"12345", b"1"])
    selection = Selection(str(tmp_path), max_bytes=4, image_column="image")
    assert read(selection, ["t.parquet#1", "t.parquet#2"]) == ["too large: 5 bytes, at most 4 are read", b"1"]


def test_versions_are_those_of_the_contents(selection, tmp_path):
    names = ["a.parquet#1", "a.parquet#2"]
    before = [item.version for item in selection.look_up(names)]
    write_images(tmp_path / "data/a.parquet", [b"a1", b"other"])
    after = [item.version for item in selection.look_up(names)]
    assert before[0] == after[0] != ""
    assert before[1] != after[1]


def test_tables_in_object_storage_are_read_in_pieces(tmp_path):
    write_images(tmp_path / "t.parquet", [bytes([row]) * 10 for row in range(ROWS)], row_group_size=4)
    with s3_server() as server:
        server.objects["sets/t.parquet"] = (tmp_path / "t.parquet").read_bytes()
        selection = Selection("s3://bucket/sets", storage=server.storage, image_column="image")
        assert read(selection, ["t.parquet#20", "t.parquet#1"]) == [b"\x13" * 10, b"\x00" * 10]
