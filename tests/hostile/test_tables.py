"""Tables of examples and splits made to grow, to loop or to pass for something else are refused."""

from __future__ import annotations

import io
import json
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.data import label_space, parse_examples, parse_splits
from fewshot.data import table_rows as rows
from fewshot.data.label_space import MAX_LABEL
from fewshot.errors import DataError
from ray_jobs.inputs import example_tables
from ray_jobs.inputs.examples import read_labels
from tests.ray_jobs.place import write_table


def messages(data, kind="csv"):
    with pytest.raises(DataError) as caught:
        parse_examples(data, format=kind, name="t")
    assert len(str(caught.value)) < 3000
    return str(caught.value)


def parquet(columns, **options):
    buffer = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), buffer, **options)
    return buffer.getvalue()


def repeated(text, times):
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array([text]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"image,label" + b",x" * 100_000 + b"\n" + b"a,b\n" * 1000, "100002 columns, at most 1000 are read"),
        (b"image,label\na,b" + b",x" * 1_000_000, "line 2: more cells than the header"),
        (b"image,label\na," + b"x" * 200_000, "field larger than field limit"),
        (b'image,label\n"' + b"a\n" * 100_000, "field larger than field limit"),
        (b"image,label\na\0b,c\n", "line 2: the image must be a path or a URL"),
        (b"image,label\n" + b"x" * 5000 + b",c\n", "line 2: the image must be a path or a URL"),
        (b"x" + b",y" * 900, "and 881 more"),
    ],
)
def test_a_csv_made_to_grow_is_refused(data, reason):
    assert reason in messages(data if b"\n" in data else data + b"\n1")


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"image":"a","label":' + b"9" * 10_000 + b"}"])
def test_a_line_of_json_made_to_loop_is_refused(line):
    assert "line 1: not JSON" in messages(line, "jsonl")


def test_half_a_character_is_no_path():
    assert "the image must be a path or a URL" in messages(b'{"image":"a\\ud800","label":"b"}', "jsonl")
    with pytest.raises(DataError, match="is not a valid path"):
        parse_splits(json.dumps({"train": [["\ud800", 0, "a"]]}).encode())


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"image": repeated("x" * (10 << 20), 99), "label": repeated("y", 99)}, "a cell of 10485760 bytes"),
        ({"image": pa.array([b"\xff"]).view(pa.string()), "label": ["b"]}, "cannot be read as parquet"),
        ({"image": [["a"]], "label": ["b"]}, "column 'image' is list<element: string>, expected text or integers"),
        ({"image": [{"byte": b"x"}], "label": ["b"]}, "expected text or integers"),
        ({"path": [b"\xff"], "label": ["b"]}, "the image must be a path or a URL, got bytes"),
        ({"image": ["a"], "label": [b"x"]}, "the label must be text or an integer, got b'x'"),
        ({"image": [b"x"], "label": [["b"]]}, "column 'label' is list<element: string>, expected text or integers"),
    ],
)
def test_a_parquet_table_of_another_kind_is_refused(columns, reason):
    assert reason in messages(parquet(columns, compression="zstd"), "parquet")


def test_a_parquet_table_cannot_repeat_itself_without_end(monkeypatch):
    table = parquet({"image": repeated("x" * 1000, 5000), "label": repeated("y", 5000)}, compression="zstd")
    assert len(table) < 5000
    monkeypatch.setattr(rows, "MAX_TEXT", 1 << 20)
    assert "5005000 bytes of text, at most 1048576 are read" in messages(table, "parquet")
    monkeypatch.setattr(rows, "MAX_ROWS", 4999)
    assert "5000 rows, at most 4999 are read" in messages(table, "parquet")


def test_a_table_is_read_up_to_a_size_and_a_pipe_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(example_tables, "MAX_TABLE_BYTES", 100)
    with pytest.raises(DataError, match=r"t\.csv: too large: \d+ bytes, at most 100 are read"):
        read_labels(str(write_table(tmp_path / "t.csv", [("a.jpg", "b")] * 20)))
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"pipe\.csv: not a regular file"):
        read_labels(str(tmp_path / "pipe.csv"))
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"zero\.csv: not a regular file"):
        read_labels(str(tmp_path / "zero.csv"))


@pytest.mark.parametrize(
    "path", ["../up.jpg", "/etc/passwd", "file:///etc/passwd", "http://host/a", "a\\b", "s3:x", "\0"]
)
def test_a_split_names_images_of_its_own_folder_only(path):
    with pytest.raises(DataError, match=r"must be relative|must not contain|is not a valid path"):
        parse_splits(json.dumps({"train": [["a.jpg", 0, "a"], [path, 1, "b"]]}).encode())


@pytest.mark.parametrize("twin", ["c\u200bat", "ca\u00adt", "cat\u2060", "CAT", "ｃａｔ", "c\u200dat"])
def test_classes_that_look_the_same_are_told_and_never_merged(twin):
    with pytest.raises(DataError, match="differ only in case"):
        label_space(parse_examples(json_lines("cat", twin), format="jsonl", name="t"))


def test_one_class_typed_in_two_normal_forms_is_one_class():
    examples = parse_examples(json_lines("\u00e9clair", "e\u0301clair", "bun"), format="jsonl", name="t")
    assert label_space(examples).names == ("bun", "\u00e9clair")


def test_letters_of_other_alphabets_are_other_letters():
    assert len(label_space(parse_examples(json_lines("cat", "c\u0430t"), format="jsonl", name="t"))) == 2


def test_a_label_is_no_essay():
    with pytest.raises(DataError, match=f"201 characters, at most {MAX_LABEL} are allowed"):
        label_space(parse_examples(json_lines("x" * 201, "b"), format="jsonl", name="t"))


def test_a_hundred_thousand_classes_are_a_label_space():
    count = 100_000
    examples = parse_examples(json_lines(*(f"class {number}" for number in range(count))), format="jsonl", name="t")
    space = label_space(examples)
    assert len(space) == count
    assert sys.getsizeof(space.names) < 16 * count


def json_lines(*labels):
    lines = (json.dumps({"image": f"{number}.jpg", "label": label}) for number, label in enumerate(labels))
    return "\n".join(lines).encode()


@given(labels=st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=5))
def test_any_labels_are_a_label_space_that_one_line_can_show_or_are_refused(labels):
    try:
        space = label_space(parse_examples(json_lines(*labels), format="jsonl", name="t"))
    except DataError as error:
        problem = str(error)
        assert not set("\x1b\0\r") & set(problem)
        return
    for name in (*space.names, *space.prompt_names):
        assert len(name.splitlines()) == 1
        assert not any(part in ("", ".", "..") for part in name.replace("\\", "/").split("/"))
