"""Tables made to claim, to repeat and to mislead: every row is a record, and the rest of the table is read."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import SourceError
from cluster.records import Columns, open_source, parquet, parquet_cells
from tests.cluster.records.archives import contents_of, records_of


def write(path, columns, **options):
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
    return path


@pytest.fixture
def table(tmp_path):
    return tmp_path / "t.parquet"


def undecodable(*values):
    """A column that says it is text, and is not."""
    return pa.array(values, pa.binary()).view(pa.string())


def claiming(path, rows):
    """A footer that claims so many rows of a table that has two: the number stands there twice."""
    data = write(path, {"image": pa.array([b"1", b"2"])}).read_bytes()
    footer = int.from_bytes(data[-8:-4], "little")
    body, claims = data[: -8 - footer], data[-8 - footer : -8]
    assert rows < 64, "one byte of a zigzag varint"
    two, many = bytes([2 << 1]), bytes([rows << 1])
    changed = claims.replace(b"\x16" + two, b"\x16" + many)
    assert changed != claims
    path.write_bytes(body + changed + data[-8:])
    return path


def test_rows_that_a_footer_claims_and_the_pages_lack_are_reasons(table):
    records = records_of(claiming(table, 60))
    assert [record.data for record in records[:2]] == [b"1", b"2"]
    assert [record.error for record in records[2:]] == ["damaged parquet file: it has fewer rows than it claims"] * 58


def test_a_table_cannot_claim_more_rows_than_it_has_bytes(table):
    size = write(table, {"image": pa.array([b"1"] * 5000)}).stat().st_size
    assert size < 5000
    (reason,) = contents_of(table).values()
    assert f"claims 5000 images in {size} bytes" in str(reason)


def test_a_row_group_of_too_many_rows_is_refused(table, monkeypatch):
    monkeypatch.setattr(parquet, "MAX_GROUP_ROWS", 3)
    write(table, {"image": pa.array([b"1"] * 4)})
    assert contents_of(table) == {"t.parquet": "a row group of 4 rows, at most 3 are read; write smaller ones"}


def test_a_value_that_a_dictionary_repeats_is_read_row_by_row_and_not_without_end(table, monkeypatch):
    monkeypatch.setattr(parquet, "MAX_EXPANSION", 3)
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 40, pa.int32()), pa.array([bytes(1 << 20)]))
    write(table, {"image": repeated}, compression="zstd")
    assert table.stat().st_size < 10_000
    errors = [record.error for record in records_of(table)]
    assert errors[:3] == [None] * 3
    assert errors[3:] == ["the file expands to more than 3 times its size"] * 37


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (pa.array([3]), "not found in {folder}, the folder of the table"),
        (pa.array([["x"]]), "the path is list<element: string>, not text"),
        (pa.array([{"a": 1}]), "the path is struct<a: int64>, not text"),
        (undecodable(b"\xff\xfe"), "the path is not UTF-8"),
    ],
)
def test_a_path_in_a_struct_may_be_anything(table, path, reason):
    images = pa.StructArray.from_arrays([pa.array([None], pa.binary()), path], ["bytes", "path"])
    expected = reason.format(folder=table.parent)
    assert list(contents_of(write(table, {"image": images})).values()) == [expected]


def test_a_row_that_is_no_text_costs_that_row_only(table):
    keys = undecodable(b"a", b"\xff", b"c")
    assert contents_of(write(table, {"key": keys, "image": [b"1", b"2", b"3"]})) == {
        "a": b"1", "t/1": "the key is not UTF-8", "c": b"3",
    }  # fmt: skip
    assert contents_of(write(table, {"url": undecodable(b"\xff\xfe", b"no.jpg")})) == {
        "t/0": "the path is not UTF-8", "t/1": f"not found in {table.parent}, the folder of the table",
    }  # fmt: skip


def test_a_key_longer_than_any_name_is_a_reason(table):
    long = "x" * (parquet_cells.MAX_TEXT_BYTES + 1)
    assert list(contents_of(write(table, {"key": [long, "b"], "image": [b"1", b"2"]}))) == ["t/0", "b"]


def test_keys_are_names_and_never_places(table):
    keys = ["../../up", "/etc/passwd", "a\nb", "\x1b[31m", "‮gpj.exe"]
    assert list(contents_of(write(table, {"key": keys, "image": [b"1"] * 5}))) == [
        "../../up", "/etc/passwd", "a\\nb", "\\x1b[31m", "‮gpj.exe",
    ]  # fmt: skip


def test_two_columns_of_one_name_are_refused_if_they_are_asked_for(table):
    twins = pa.Table.from_arrays([pa.array([b"1"]), pa.array([b"2"])], names=["image", "image"])
    with pytest.raises(SourceError, match="several columns 'image'"):
        open_source(str(write(table, twins)))
    others = pa.Table.from_arrays([pa.array([b"1"]), pa.array([1]), pa.array([2])], names=["image", "x", "x"])
    assert contents_of(write(table, others)) == {"t/0": b"1"}
    twins = pa.StructArray.from_arrays([pa.array([b"1"]), pa.array([b"2"])], ["bytes", "bytes"])
    with pytest.raises(SourceError, match="expected binary, a struct of bytes"):
        open_source(str(write(table, {"x": twins})), columns=Columns(image="x"))


def test_of_thousands_of_columns_a_message_names_some(table):
    write(table, {f"\x1bcolumn {number}": [1] for number in range(3000)})
    with pytest.raises(SourceError, match=r"and 2980 more\. Name the image column") as caught:
        open_source(str(table))
    assert len(str(caught.value)) < 2000
    assert "\x1b" not in str(caught.value)
