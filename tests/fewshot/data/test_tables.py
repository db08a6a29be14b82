"""Parsing of tables of examples, and refusal of invalid ones."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.data import COLUMNS, Example, SplitChoice, parse_examples
from fewshot.data.tables import IMAGE_COLUMNS, parse_rows, unique_examples
from fewshot.errors import DataError, MissingColumnError, UnknownNameError

words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z")), min_size=1, max_size=8)


def parse_csv(text: str) -> list[Example]:
    return parse_examples(text.encode(), format="csv", name="shots.csv")


def parse_jsonl(*rows: object) -> list[Example]:
    return parse_examples("\n".join(map(json.dumps, rows)).encode(), format="jsonl", name="shots.jsonl")


def parse_parquet(columns: dict[str, list[object]]) -> list[Example]:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return parse_examples(file.getvalue(), format="parquet", name="shots.parquet")


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


@given(st.lists(st.builds(Example, image=words, label=words), min_size=1, max_size=8, unique_by=lambda row: row.image))
def test_the_three_formats_give_equal_examples(rows):
    assert parse_csv("\n".join(["image,label", *(f"{quoted(row.image)},{quoted(row.label)}" for row in rows)])) == rows
    assert parse_jsonl(*({"image": row.image, "label": row.label} for row in rows)) == rows
    assert parse_parquet({"image": [row.image for row in rows], "label": [row.label for row in rows]}) == rows


@pytest.mark.parametrize(
    ("image", "label"), [(image, label) for image in COLUMNS["image"] for label in COLUMNS["label"]]
)
def test_columns_are_found_by_common_names_in_any_case(image, label):
    assert parse_csv(f"extra, {label.title()} ,{image.upper()}\n1,cat,a.jpg\n") == [Example("a.jpg", "cat")]


def test_blank_names_and_descriptions_are_none():
    rows = parse_csv('image,label,name,description\na.jpg,1,tabby,"striped, grey"\nb.jpg,2, ,\n')
    assert rows == [Example("a.jpg", "1", "tabby", "striped, grey"), Example("b.jpg", "2")]


def test_integer_labels_are_read_as_text():
    assert [row.label for row in parse_parquet({"path": ["a", "b"], "label": [7, 10]})] == ["7", "10"]
    assert [row.label for row in parse_jsonl({"path": "a", "label": 7})] == ["7"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_csv_files_of_spreadsheets_are_read(separator):
    lines = [separator.join(cells) for cells in (["image", "label"], ["a.jpg", "cat"], ["", ""])]
    data = ("\ufeff" + "\r\n".join(lines)).encode()
    assert parse_examples(data, format="csv", name="x") == [Example("a.jpg", "cat")]


def test_unicode_forms_of_a_label_are_one_class():
    assert {row.label for row in parse_csv("image,label\na.jpg,cafe\u0301\nb.jpg, caf\u00e9 \n")} == {"caf\u00e9"}


def test_a_row_without_image_adds_a_class():
    assert parse_csv("image,label,name\n,42,okapi\n") == [Example("", "42", "okapi")]


def test_a_repeated_image_counts_as_one_example():
    rows = parse_csv("image,label,name\na.jpg,cat,\na.jpg,cat,tabby\n")
    assert [row.image for row in rows] == ["a.jpg", ""]
    assert rows[1].name == "tabby"


def test_every_problem_is_listed_with_its_line():
    with pytest.raises(DataError) as caught:
        parse_csv("image,label,name\na.jpg,\nb.jpg,cat,tabby\nb.jpg,dog\nc.jpg,cat,tom\n")
    message = str(caught.value)
    assert "shots.csv" in message
    assert "line 2: the label is empty" in message
    assert "line 4: the label of image 'b.jpg' is 'dog', but 'cat' in line 3" in message
    assert "line 5: the name of class 'cat' is 'tom', but 'tabby' in line 3" in message


def test_only_the_first_twenty_problems_are_shown():
    with pytest.raises(DataError, match="and 10 more") as caught:
        parse_csv("image,label\n" + "a.jpg,\n" * 30)
    assert len(str(caught.value).splitlines()) == 22


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no rows"),
        ("image,label\n", "has no rows"),
        ("picture,lable\na,b\n", r"no column for the image: expected one of image, .*found \['picture', 'lable'\]"),
        ("picture,lable\na,b\n", "no column for the label: expected one of label, class, category"),
        ("label,Label,image\na,b,c\n", "2 columns 'label'"),
        ("image,label\na,b,c d, e\n", "line 2: more cells than the header"),
        ('image,label\na,"b\n', "begins in line 2: unexpected end of data"),
    ],
)
def test_an_invalid_csv_is_refused_with_its_reason(text, reason):
    with pytest.raises(DataError, match=reason):
        parse_csv(text)


def test_bytes_that_are_not_utf8_are_located():
    with pytest.raises(DataError, match=r"line 3: byte 10 \(0xe9\) is not UTF-8"):
        parse_examples("image,label\na.jpg,cat\nb.jpg,caf\u00e9\n".encode("latin-1"), format="csv", name="x")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([1, 2], "expected a JSON object, got list"),
        ({"image": "a", "label": True}, "label must be text or an integer, got True"),
        ({"image": "a", "label": 1.5}, "label must be text or an integer, got 1.5"),
        ({"image": 3, "label": "cat"}, "the image must be a path or a URL, got int"),
        ({"image": "a"}, "line 2: the label is empty"),
    ],
)
def test_json_rows_of_another_shape_are_refused(row, reason):
    with pytest.raises(DataError, match=reason):
        parse_jsonl({"image": "z.jpg", "label": "dog"}, row)


@pytest.mark.parametrize("line", ['{"image": "a"', "[" * 100_000, "9" * 5000])
def test_a_json_line_without_an_object_is_refused(line):
    with pytest.raises(DataError, match="line 1: "):
        parse_examples(line.encode(), format="jsonl", name="x")


def test_parquet_without_required_columns_is_never_decoded():
    with pytest.raises(DataError, match=r"found \['pixels'\]"):
        parse_parquet({"pixels": [b"\xff"]})


@given(st.binary(max_size=64))
def test_bytes_that_are_not_parquet_are_refused(data):
    with pytest.raises(DataError, match="cannot be read as parquet"):
        parse_examples(data, format="parquet", name="x")


def test_an_unknown_format_is_refused():
    with pytest.raises(UnknownNameError, match="Known: csv, jsonl, parquet"):
        parse_examples(b"", format="xlsx", name="x")


def hugging_face(columns, features):
    """A table with the metadata that `datasets` writes."""
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return written(pa.table(columns).replace_schema_metadata(metadata))


def written(table):
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def parse_images(data, **options):
    found = parse_rows(data, format="parquet", name="t.parquet", **options)
    return found.images, [(example.image, example.label) for _, example in found.rows]


LABELS = {"label": {"names": ["tabby cat", "dog"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
CELLS = [{"bytes": b"1", "path": "a.jpg"}, {"bytes": b"2", "path": "a.jpg"}]


def test_images_in_a_table_are_named_by_their_rows_and_labels_by_their_features():
    data = hugging_face({"image": CELLS, "label": [1, 0]}, LABELS | {"other": [{"_type": "Value"}]})
    assert parse_images(data) == ("image", [("t.parquet#1", "dog"), ("t.parquet#2", "tabby cat")])


@pytest.mark.parametrize("column", IMAGE_COLUMNS)
def test_columns_of_images_come_before_columns_of_paths(column):
    data = written(pa.table({"url": ["x", "y"], column: [b"1", b"2"], "label": ["a", "b"]}))
    assert parse_images(data) == (column, [("t.parquet#1", "a"), ("t.parquet#2", "b")])


def test_columns_can_be_named():
    data = hugging_face(
        {"image": CELLS, "label": [1, 0], "photo": [b"1", b"2"], "coarse": [0, 1], "url": ["x", "y"]},
        {"coarse": {"names": ["pet", "farm"], "_type": "ClassLabel"}},
    )
    assert parse_images(data, image_column="photo", label_column="Coarse") == (
        "photo",
        [("t.parquet#1", "pet"), ("t.parquet#2", "farm")],
    )
    assert parse_images(data, image_column="url") == (None, [("x", "1"), ("y", "0")])
    rows = parse_rows(
        b"photo,species\na.jpg,cat\n", format="csv", name="t", image_column="photo", label_column="species"
    )
    assert rows.rows == (("line 2", Example("a.jpg", "cat")),)


def test_a_named_column_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(MissingColumnError, match=r"no column 'species' \(label_column\); found \['image', 'label'\]"):
        parse_rows(b"image,label\na,b\n", format="csv", name="t", label_column="species")
    with pytest.raises(MissingColumnError, match="Name the column with label_column"):
        parse_rows(b"image,species\na,b\n", format="csv", name="t")


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_without_a_name_in_the_features_is_refused(label):
    with pytest.raises(
        DataError, match=rf"row 2: label {label} is none of the 2 classes that the table names \(0 to 1\)"
    ):
        parse_images(hugging_face({"image": CELLS, "label": [1, label]}, LABELS))


@pytest.mark.parametrize("metadata", [b"", b"{", b"[]", b'{"info": {"features": {"label": {"_type": "ClassLabel"}}}}'])
def test_labels_without_features_are_numbers(metadata):
    table = pa.table({"image": CELLS, "label": [1, 0]}).replace_schema_metadata({b"huggingface": metadata})
    assert parse_images(written(table)) == ("image", [("t.parquet#1", "1"), ("t.parquet#2", "0")])


def test_a_column_of_splits_is_found_by_its_name_or_its_cells():
    def splits(text):
        return [example.split for _, example in parse_rows(text.encode(), format="csv", name="t").rows]

    assert splits("image,label,Split\na,x,train\nb,y,\n") == ["train", ""]
    assert splits("image,label,subset\na,x,train\nb,y,valid\n") == ["train", "valid"]
    assert splits("image,label,subset\na,x,train\nb,y,north\n") == [None, None]
    assert splits("image,label,set\na,x,train\nb,y,test\nc,y,held out\n") == ["train", "test", "held out"]
    assert splits("image,label,data set\na,x,train\nb,y,test\n") == ["train", "test"]


def test_an_image_in_two_splits_is_refused():
    rows = parse_rows(b"image,label,split\na,x,train\nb,x,test\n", format="csv", name="t").rows
    assert len(unique_examples(rows, name="t", split=SplitChoice("train"))) == 1
    with pytest.raises(DataError, match="line 3: the split of image 'a' is 'test', but 'train' in line 2"):
        parse_rows(b"image,label,split\na,x,train\n./a,x,test\n", format="csv", name="t")


def test_several_splits_are_never_mixed_silently():
    with pytest.raises(DataError, match="several splits"):
        parse_csv("image,label,split\na,x,train\nb,y,test\n")


def test_one_image_has_one_name():
    rows = parse_csv("image,label\n./a.jpg,cat\na.jpg,cat\nb//c/./d.jpg,cat\nhttps://h//a/./b,cat\n")
    assert [row.image for row in rows] == ["a.jpg", "", "b/c/d.jpg", "https://h//a/./b"]


def test_the_separator_that_a_spreadsheet_declares_is_skipped():
    assert parse_csv("sep=;\r\nimage;label\r\na,b.jpg;cat\r\n") == [Example("a,b.jpg", "cat")]


def test_a_table_in_utf16_is_named():
    with pytest.raises(DataError, match="x is UTF-16; save the file as UTF-8"):
        parse_examples("image\tlabel\na\tcat\n".encode("utf-16"), format="csv", name="x")
