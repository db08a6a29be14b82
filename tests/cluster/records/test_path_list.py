"""Lists of paths and URLs as archives."""

from __future__ import annotations

import gc
import json
import tracemalloc

import pytest

from cluster import SourceError
from cluster.records import Columns, open_source, path_list, pick, read_shard, reading
from tests.cluster.records.archives import contents_of, records_of, write_folder

IMAGES = {"a.jpg": b"1", "sub/b c.jpg": b"22", "sub/ü.jpg": b"333"}


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path, IMAGES)


def write(folder, name, text):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "a.jpg\nsub/b c.jpg\nsub/ü.jpg\n"),
        ("list.TXT", "\N{ZERO WIDTH NO-BREAK SPACE}a.jpg\r\n\r\nsub/b c.jpg\r\n  \r\nsub/ü.jpg"),
        ("list.csv", "image,label\na.jpg,cat\nsub/b c.jpg,dog\n\nsub/ü.jpg,cat\n"),
        ("list.csv", '"label","Path"\r\n"a, b","a.jpg"\r\n"say ""c""","sub/b c.jpg"\r\nx,sub/ü.jpg\r\n'),
        ("list.tsv", "file_name\ttext\na.jpg\ta,b\nsub/b c.jpg\tc\nsub/ü.jpg\td\n"),
        ("list.jsonl", '"a.jpg"\n\n"sub/b c.jpg"\n"sub/\\u00fc.jpg"\n'),
        ("list.ndjson", '{"file_name": "a.jpg", "n": [1]}\n{"file_name": "sub/b c.jpg"}\n{"file_name": "sub/ü.jpg"}\n'),
    ],
)
def test_every_row_is_a_record_named_by_its_path(folder, name, text):
    path = write(folder, name, text)
    source = open_source(str(path))
    assert source.kind == "list"
    assert contents_of(source) == IMAGES
    assert {record.source for record in records_of(source)} == {name}


def test_paths_begin_at_the_folder_of_the_list(folder):
    rows = ["../a.jpg", "b c.jpg", str(folder / "a.jpg"), (folder / "a.jpg").as_uri()]
    path = write(folder, "sub/list.txt", "\n".join(rows))
    assert list(contents_of(path).values()) == [b"1", b"22", b"1", b"1"]


@pytest.mark.parametrize("again", ["sub/b c.jpg", "./sub/b c.jpg", "sub//b c.jpg", "sub/./b c.jpg", "././sub/b c.jpg"])
def test_an_image_that_is_named_again_is_one_record(folder, again):
    source = open_source(str(write(folder, "list.txt", f"sub/b c.jpg\na.jpg\n{again}\n")))
    assert [record.key for record in records_of(source)] == ["sub/b c.jpg", "a.jpg"]
    assert (source.skipped.repeated, source.skipped.repeated_examples) == (1, ["sub/b c.jpg"])
    assert source.skipped.count == 0
    reverse = write(folder, "reverse.txt", f"{again}\na.jpg\nsub/b c.jpg\n")
    assert [record.key for record in records_of(reverse)] == ["sub/b c.jpg", "a.jpg"]


def test_two_names_of_an_image_and_two_images_of_a_name_are_two_records(folder):
    path = write(folder, "list.csv", "id,path\n1,a.jpg\n2,a.jpg\n3,sub/b c.jpg\n3,a.jpg\n")
    named = records_of(path, columns=Columns(key="id"))
    assert [(record.key, record.data) for record in named] == [("1", b"1"), ("2", b"1"), ("3", b"22"), ("3", b"1")]


def test_slashes_of_a_url_are_part_of_its_name(folder):
    path = write(folder, "list.txt", "https://h/b//a.jpg\nhttps://h/b/a.jpg\nhttps://h/./b\nhttps://h/b/a.jpg\n")
    source = open_source(str(path), schemes=["https"])
    keys = [entry.key for shard in source.shards() for entry in shard.payload.entries]
    assert keys == ["https://h/b//a.jpg", "https://h/b/a.jpg", "https://h/./b"]


def test_columns_are_found_or_named_as_in_a_table(folder):
    path = write(folder, "list.csv", "id,where,url,name\n1,a.jpg,sub/ü.jpg,cat\n2,sub/b c.jpg,a.jpg,cat\n")
    assert contents_of(path) == {"1": b"333", "2": b"1"}
    assert contents_of(path, columns=Columns(image="where")) == {"1": b"1", "2": b"22"}
    assert [record.key for record in records_of(path, columns=Columns(image="where", key="name"))] == ["cat", "cat"]
    with pytest.raises(SourceError, match=r"no column 'photo' \(image column\)\. It has: id"):
        open_source(str(path), columns=Columns(image="photo"))
    write(folder, "list.csv", "where\na.jpg\n")
    with pytest.raises(SourceError, match=r"no column of images.*It has: where \(string\)\. Name the image column"):
        open_source(str(path))


def test_a_column_whose_values_repeat_is_no_key(folder):
    path = write(folder, "list.csv", "path,name,id\na.jpg,cat,7\nsub/b c.jpg,cat,7\n")
    assert contents_of(path) == {"a.jpg": b"1", "sub/b c.jpg": b"22"}


def test_rows_that_name_nothing_are_a_reason_each(folder):
    lines = ["a.jpg", "missing.jpg", "sub", "x" * 70_000, "sub/b c.jpg"]
    path = write(folder, "list.txt", "\n".join(lines))
    found = [(record.key, record.data or str(record.error).partition(" in ")[0]) for record in records_of(path)]
    assert found == [
        ("a.jpg", b"1"),
        ("missing.jpg", "not found"),
        ("sub", "a folder, not a file"),
        ("list/4", "line 4 is longer than 65536 bytes"),
        ("sub/b c.jpg", b"22"),
    ]
    path = write(folder, "list.jsonl", '"a.jpg"\n{"path": 3\n[1]\n{"path": null}\n{"path": ""}\n' + "[" * 60_000)
    contents = contents_of(path)
    assert contents.pop("a.jpg") == b"1"
    assert [str(contents[f"list/{line}"])[:12] for line in range(2, 7)] == [
        "line 2 is no", "line 3 is no", "no image: em", "no image: em", "line 6 is no",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'path\na.jpg\n"never closed\nb.jpg\n', "unexpected end of data"),
        (b'path\na.jpg\n"closed"too early\nb.jpg\n', "is not CSV"),
        (b"path\na.jpg\n" + b"x" * 70_000 + b"\n", "line 3 is longer than 65536 bytes"),
        (b"path\na.jpg\n" + b'"x\n",' * 100_000, "is too long: a quote may be missing"),
        (b"path\na.jpg\n" + b'"' + b"x\n" * 200_000, "what follows line 2 of list.csv cannot be read"),
    ],
)
def test_what_follows_damage_in_a_csv_is_one_reason(folder, text, reason):
    contents = contents_of(write(folder, "list.csv", text))
    assert contents.pop("a.jpg") == b"1"
    assert reason in str(contents.pop("list.csv"))
    assert not contents


def test_a_value_that_must_be_quoted_is_not_cut(folder):
    contents = contents_of(write(folder, "list.csv", "path\na, b.jpg\na.jpg\n"))
    assert contents["a.jpg"] == b"1"
    assert contents["list/2"] == "line 2 has 2 values, the header 1: quote values that hold separators"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("list.txt", b"", "the list is empty"),
        ("list.csv", b"path\n\n", "the list is empty"),
        ("list.csv", b"path,path\na,b\n", "several columns are called 'path'"),
        ("list.txt", "a.jpg\n".encode("utf-16"), "encoded in UTF-16; save it as UTF-8"),
        ("list.jsonl", b"{\n", "line 1 is not JSON"),
        (
            "list.txt",
            b"b.jpg\nc.jpg\n",
            r"none of its first 2 rows .*such as b\.jpg: not found in /.*, the folder of the table",
        ),
        ("list.txt", b"https://h/a.jpg\n", r'https URLs are not followed.*schemes = \["https"\]'),
    ],
)
def test_a_list_of_which_nothing_can_be_read_is_refused_at_once(folder, name, text, reason):
    with pytest.raises(SourceError, match=reason):
        open_source(str(write(folder, name, text)))


def test_of_several_lists_one_that_cannot_be_read_is_a_reason(folder):
    write(folder, "1.csv", "path\na.jpg\n")
    write(folder, "0.csv", "")
    write(folder, "2.csv", "photo\na.jpg\n")
    contents = contents_of(folder / "*.csv")
    assert contents.pop("a.jpg") == b"1"
    assert contents.pop("0.csv") == "no images: the list is empty"
    assert "no column of images" in str(contents.pop("2.csv"))


def test_a_list_in_a_folder_is_a_sidecar(folder):
    write(folder, "list.csv", "path\na.jpg\n")
    assert contents_of(folder) == IMAGES
    assert contents_of(folder / "**") == IMAGES


def test_names_that_are_not_utf8_are_found(folder):
    with open(bytes(folder) + b"/\xff.jpg", "wb") as file:  # noqa: PTH123
        file.write(b"4")
    assert contents_of(write(folder, "list.txt", b"\xff.jpg\n")) == {"\\udcff.jpg": b"4"}


def test_urls_with_secrets_and_images_as_text_are_numbered(folder):
    rows = [
        "data:,x",
        "https://h/a.jpg?sig=secret",
        "https://u:secret@h/a.jpg",
        "https://h/a.jpg#secret",
        "https://h/b",
    ]
    keys = [record.key for record in records_of(write(folder, "list.txt", "\n".join(rows)))]
    assert keys == ["list/1", "list/2", "list/3", "list/4", "https://h/b"]


def test_rows_beyond_those_that_are_compared_are_other_shards(folder, monkeypatch):
    monkeypatch.setattr(path_list, "COMPARED_ROWS", 0)
    path = write(folder, "list.txt", "a.jpg\n" * 100)
    shards = list(open_source(str(path), shard_records=10).shards())
    assert len({shard.fingerprint for shard in shards}) == len(shards) >= 5
    assert sum(len(list(read_shard(shard))) for shard in shards) == 100


def test_a_longer_list_changes_the_last_shard_only(tmp_path):
    names = [f"{number}.jpg" for number in range(300)]
    write_folder(tmp_path, dict.fromkeys(names, b"x"))

    def fingerprints(names):
        path = write(tmp_path, "list.txt", "\n".join(names))
        return [shard.fingerprint for shard in open_source(str(path), shard_records=16).shards()]

    before = fingerprints(names[:290])
    assert fingerprints(names)[: len(before) - 1] == before[:-1]
    (tmp_path / "150.jpg").write_bytes(b"changed")
    assert len(set(before) - set(fingerprints(names[:290]))) == 1


def test_rows_are_picked_without_those_before_them(folder):
    path = write(folder, "list.txt", "".join(f"missing{number}.jpg\n" for number in range(50)) + "a.jpg\n")
    (shard,) = open_source(str(path)).shards()
    assert [record.data for record in pick(shard, [50])] == [b"1"]


def test_a_list_is_never_kept_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BUFFER_BYTES", 1 << 16)
    monkeypatch.setattr(path_list, "SAMPLED_ROWS", 10)
    write_folder(tmp_path, {"a.jpg": b"1"})
    row = {"path": "a.jpg", "text": "x" * 1500}
    path = write(tmp_path, "list.jsonl", "".join(f"{json.dumps(row | {'key': number})}\n" for number in range(2000)))
    source = open_source(str(path), shard_records=100)
    gc.collect()
    tracemalloc.start()
    try:
        count = sum(shard.size or 0 for shard in source.shards())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 2000
    assert peak < 700_000 < path.stat().st_size / 4


@pytest.mark.parametrize("content", [b"1", b"123"])
def test_a_listed_file_of_another_size_than_before_is_a_reason(tmp_path, content):
    write_folder(tmp_path, {"a.jpg": b"12", "list.txt": b"a.jpg\n"})
    shards = list(open_source(str(tmp_path / "list.txt")).shards())
    (tmp_path / "a.jpg").write_bytes(content)
    (record,) = (record for shard in shards for record in read_shard(shard))
    assert (record.data, record.error) == (None, reading.CHANGED)
