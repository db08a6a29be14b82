"""Columns that divide a table: flags of a split are splits, parts without a name are a notice."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fewshot.data import SplitChoice
from fewshot.data.split_columns import FLAG_COLUMNS, MAX_PARTS, PART_COLUMNS
from fewshot.data.tables import parse_rows, unique_examples
from fewshot.errors import DataError


def parsed(text, **columns):
    return parse_rows(text.encode(), format="csv", name="t.csv", **columns)


def splits(text, **columns):
    return [example.split for _, example in parsed(text, **columns).rows]


def parts(column, *values):
    rows = [f"{number}.jpg,{'xy'[number % 2]},{value}" for number, value in enumerate(values)]
    return "\n".join([f"image,label,{column}", *rows])


@pytest.mark.parametrize(("column", "split"), FLAG_COLUMNS.items())
@pytest.mark.parametrize(("yes", "no"), [("true", "false"), ("1", "0"), ("Yes", " NO "), ("T", ""), ("1.0", "0.0")])
def test_a_flag_is_the_split_of_its_rows(column, split, yes, no):
    assert splits(f"image,label,{column.title()}\na,x,{yes}\nb,y,{no}\n") == [
        split,
        "test" if split == "train" else "train",
    ]


def test_several_flags_are_one_split_a_row():
    header = "image,label,is_train,is_val,is_test\n"
    assert splits(f"{header}a,x,1,0,0\nb,x,0,1,0\nc,x,0,0,1\nd,x,0,0,0\n") == ["train", "val", "test", ""]
    assert splits("image,label,is_val,is_test\na,x,0,0\nb,x,1,0\nc,x,0,1\n") == ["train", "val", "test"]
    assert splits("image,label,is_train,is_val\na,x,0,0\nb,x,1,0\nc,x,0,1\n") == ["test", "train", "val"]


def test_flags_in_other_formats_are_read():
    rows = [{"image": "a", "label": "x", "is_test": True}, {"image": "b", "label": "y", "is_test": False}]
    lines = "\n".join(map(json.dumps, rows)).encode()
    assert [row.split for _, row in parse_rows(lines, format="jsonl", name="t").rows] == ["test", "train"]
    pq.write_table(pa.Table.from_pylist(rows), sink := io.BytesIO())
    assert [row.split for _, row in parse_rows(sink.getvalue(), format="parquet", name="t").rows] == ["test", "train"]


def test_flagged_rows_are_never_mixed_silently():
    rows = parsed("image,label,is_test\na,x,0\nb,y,1\n,z,0\n").rows
    expected = r'several splits \(test: 1, train: 1 rows\); choose one with support\.split = "train", or all of them'
    with pytest.raises(DataError, match=expected):
        unique_examples(rows, name="t.csv", split=SplitChoice(None, "support.split"))
    chosen = unique_examples(rows, name="t.csv", split=SplitChoice("test"))
    assert [(example.image, example.label) for example in chosen] == [("b", "y"), ("", "z")]


@pytest.mark.parametrize(
    "text",
    [
        "image,label,is_test\na,x,maybe\nb,y,1\n",
        "image,label,is_test\na,x,2\nb,y,1\n",
        "image,label,tested\na,x,1\nb,y,0\n",
    ],
)
def test_a_column_of_other_values_or_of_another_name_is_no_flag(text):
    assert splits(text) == [None, None]


def test_a_column_of_splits_or_labels_is_no_flag():
    assert splits("image,label,split,is_test\na,x,train,1\nb,y,val,0\n") == ["train", "val"]
    assert splits("image,is_test\na,1\nb,0\n", label_column="is_test") == [None, None]


@pytest.mark.parametrize("column", PART_COLUMNS)
def test_parts_without_a_name_are_a_notice(column):
    (notice,) = parsed(parts(column.title(), 0, 1, 2, 0, 1, 2, "")).notices
    assert notice == (
        f"t.csv: the column {column.title()!r} has 3 values (0, 1, 2), and the rows of all of them are used. If they "
        'are splits, call the column "split" to choose one of them.'
    )
    (notice,) = parsed(parts(column, *"abcdefgh", *"abcdefgh")).notices
    assert "has 8 values (a, b, c, d, e and 3 more)" in notice


@pytest.mark.parametrize(
    "text",
    [
        parts("fold", 1, 1, 1, 1),
        parts("fold", 1, 2, 3, 4),
        parts("fold", *range(MAX_PARTS + 1), *range(MAX_PARTS + 1)),
        parts("set", "train", "test", "train", "test"),
        parts("split", 0, 1, 0, 1),
        parts("dataset", 0, 1, 0, 1),
        "image,label,fold,is_test\na,x,1,0\nb,x,2,0\nc,x,1,0\nd,x,2,0\n",
    ],
)
def test_what_cannot_be_parts_or_is_a_split_is_no_notice(text):
    assert parsed(text).notices == ()


def test_a_number_among_the_names_of_splits_is_one_more_value():
    lines = [{"image": str(row), "label": "x", "set": cell} for row, cell in enumerate(["train", 3, "train"])]
    text = "\n".join(map(json.dumps, lines)).encode()
    assert {example.split for _, example in parse_rows(text, format="jsonl", name="t").rows} == {None}


def test_as_many_parts_as_are_listed_at_most_are_a_notice():
    assert parsed(parts("fold", *range(MAX_PARTS), *range(MAX_PARTS))).notices
    assert parsed(parts("fold", 1, 2, 1, 2), label_column="fold").notices == ()
