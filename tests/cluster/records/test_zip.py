from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile

import pytest

from cluster import SourceError
from cluster.errors import ChangedError
from cluster.records import Skipped, open_source, pick, read_shard, streams
from tests.cluster.records.archives import contents_of, records_of, tar_bytes, write_folder, zip_bytes
from tests.cluster.records.s3_server import s3_server

IMAGES = {"0/a.jpg": b"a" * 700, "0/b.png": b"b" * 1300, "c": b"", "d" * 200 + ".jpg": b"d"}
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]


@pytest.fixture
def requests(monkeypatch):
    """Ranges of bytes that were requested, in requests of at most 1,000 bytes."""
    ranges: list[range] = []

    def fetch(filesystem, path, *, start, end, tag):
        ranges.append(range(start, end))
        return original(filesystem, path, start=start, end=end, tag=tag)

    original = streams.fetch
    monkeypatch.setattr(streams, "fetch", fetch)
    monkeypatch.setattr(streams, "BUFFER_BYTES", 1000)
    return ranges


class Unseekable(io.BytesIO):
    """A pipe: sizes are written behind the content, not before it."""

    def seekable(self):
        return False

    def seek(self, *_):
        raise io.UnsupportedOperation

    tell = seek


@pytest.mark.parametrize("method", METHODS)
def test_every_member_is_a_record(tmp_path, method):
    (tmp_path / "0.zip").write_bytes(zip_bytes(IMAGES.items(), method=method))
    assert contents_of(tmp_path / "0.zip") == IMAGES
    assert {record.source for record in records_of(tmp_path)} == {"0.zip"}


def test_a_folder_of_zips_is_an_archive(tmp_path):
    zips = {f"{number}/photos.ZIP": zip_bytes([(f"./{number}.jpg", b"x")]) for number in range(3)}
    write_folder(tmp_path, zips | {"0/photos.json": b"{}", "0/photos.parquet": b"", ".tmp.zip": b""})
    source = open_source(str(tmp_path))
    assert source.kind == "zip"
    assert [(record.key, record.source) for record in records_of(source)] == [
        ("0.jpg", "0/photos.ZIP"),
        ("1.jpg", "1/photos.ZIP"),
        ("2.jpg", "2/photos.ZIP"),
    ]
    assert source.skipped.count == 3
    assert contents_of(f"{tmp_path}/[01]/*.ZIP") == {"0.jpg": b"x", "1.jpg": b"x"}


def test_a_zip_beside_images_is_refused_and_either_is_chosen_by_name(tmp_path):
    write_folder(tmp_path, {"a.jpg": b"1", "b.zip": zip_bytes(IMAGES.items())})
    with pytest.raises(SourceError, match=r"holds 1 \.zip file and 1 image, such as a\.jpg; expected one of them"):
        contents_of(tmp_path)
    assert contents_of(tmp_path, form="folder") == {"a.jpg": b"1"}
    assert contents_of(tmp_path, form="zip") == IMAGES


def test_tars_and_zips_together_are_refused_and_chosen_with_a_glob(tmp_path):
    write_folder(tmp_path, {"0.tar": tar_bytes([("a.jpg", b"1")]), "0.zip": zip_bytes([("b.jpg", b"2")])})
    for place in (tmp_path, tmp_path / "*"):
        with pytest.raises(SourceError, match=r"holds 1 \.tar file and 1 \.zip file; expected .*\*\.tar"):
            open_source(str(place))
    assert contents_of(tmp_path / "*.tar") == {"a.jpg": b"1"}
    assert contents_of(tmp_path / "*.zip") == {"b.jpg": b"2"}


def test_the_forms_that_are_read_are_named_where_there_is_none(tmp_path):
    with pytest.raises(SourceError, match=r"a glob of \.tar, \.tar\.gz, \.tgz, .*, \.zip, \.parquet or \.pq"):
        open_source(str(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (gzip.compress(b"x", mtime=0), "packed with gzip"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "a 7z archive"),
        (b"Rar!\x1a\x07\0" + bytes(50), "a RAR archive"),
        (zip_bytes(IMAGES.items())[:-30], None),
    ],
)
def test_a_file_called_a_zip_is_named_for_what_it_is(tmp_path, data, kind):
    (tmp_path / "0.zip").write_bytes(data)
    expected = f"{kind}, not a zip file" if kind else "not a zip file, or cut off: it has no end record"
    assert contents_of(tmp_path) == {"0.zip": expected}


def test_folders_of_classes_are_in_the_keys_and_a_zip_in_a_zip_is_a_reason(tmp_path):
    inner = zip_bytes([("a.jpg", b"1")])
    (tmp_path / "0.zip").write_bytes(zip_bytes([("cat/1.jpg", b"1"), ("dog/1.jpg", b"2"), ("more/inner.zip", inner)]))
    contents = contents_of(tmp_path)
    assert "unpack the outer one first" in str(contents.pop("more/inner.zip"))
    assert contents == {"cat/1.jpg": b"1", "dog/1.jpg": b"2"}


def test_hidden_members_and_sidecars_are_counted_when_it_is_listed(tmp_path):
    names = ["a.jpg", "folder/", "a.txt", "folder/a.json", "__MACOSX/._a.jpg", ".DS_Store"]
    (tmp_path / "0.zip").write_bytes(zip_bytes((name, b"" if name.endswith("/") else b"x") for name in names))
    source, skipped = open_source(str(tmp_path)), Skipped()
    (shard,) = source.shards()
    assert shard.size == 1
    assert [record.key for record in read_shard(shard, skipped=skipped)] == ["a.jpg"]
    assert source.skipped == Skipped(4, ["a.txt", "folder/a.json", "__MACOSX/._a.jpg", ".DS_Store"])
    assert skipped.count == 0


def test_a_zip_is_cut_into_shards_of_which_each_reads_its_own_members(tmp_path, requests):
    contents = {f"{number:03d}.jpg": bytes([number]) * 5000 for number in range(100)}
    data = zip_bytes(contents.items())
    (tmp_path / "0.zip").write_bytes(data)
    shards = list(open_source(str(tmp_path), shard_records=10).shards())
    assert len(shards) > 5
    assert sum(shard.size for shard in shards) == 100
    requests.clear()
    read = {}
    for shard in shards:
        records = {record.key: record.data for record in read_shard(shard)}
        assert sum(map(len, requests)) < 1.1 * sum(len(content) for content in records.values()) + 2000
        requests.clear()
        read |= records
    assert read == contents
    assert list(pick(shards[3], [4, 1])) == [list(read_shard(shards[3]))[row] for row in (1, 4)]


def test_listing_reads_the_end_of_a_zip_and_picking_one_member(tmp_path, requests):
    (tmp_path / "0.zip").write_bytes(zip_bytes((f"{number}.jpg", bytes(1 << 20)) for number in range(8)))
    (shard,) = open_source(str(tmp_path)).shards()
    assert sum(map(len, requests)) < (1 << 20) + 4000
    requests.clear()
    (record,) = pick(shard, [5])
    assert record.key == "5.jpg"
    assert sum(map(len, requests)) < (1 << 20) + 4000


def test_a_shard_is_small_when_it_is_sent(tmp_path):
    (tmp_path / "0.zip").write_bytes(zip_bytes((f"{number:04d}.jpg", b"x") for number in range(256)))
    for shard in open_source(str(tmp_path)).shards():
        assert len(pickle.dumps(shard)) < 200 * shard.size + 1000


def test_a_zip_of_64_bit_numbers_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 500)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    data = zip_bytes(IMAGES.items())
    assert b"PK\x06\x06" in data
    (tmp_path / "0.zip").write_bytes(data)
    assert contents_of(tmp_path) == IMAGES
    (tmp_path / "0.zip").write_bytes(b"#!/bin/sh\n" + data)
    assert contents_of(tmp_path) == IMAGES


def test_more_members_than_16_bits_can_count_are_read(tmp_path):
    count = (1 << 16) + 3
    data = zip_bytes([("a.jpg", b"1")])
    start = data.index(b"PK\x01\x02")
    record = data[start : data.index(b"PK\x05\x06")]
    local = data[:start] * count
    records = b"".join(record[:42] + struct.pack("<L", number * start) + record[46:] for number in range(count))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 3, 3, len(records), len(local), 0)
    (tmp_path / "0.zip").write_bytes(local + records + end)
    shards = list(open_source(str(tmp_path)).shards())
    assert sum(shard.size for shard in shards) == count
    assert all(record.data == b"1" for record in read_shard(shards[-1]))


@pytest.mark.parametrize("method", METHODS)
def test_a_zip_that_was_written_to_a_pipe_is_read(tmp_path, method):
    pipe = Unseekable()
    with zipfile.ZipFile(pipe, "w", method) as archive:
        for name, data in IMAGES.items():
            archive.writestr(name, data)
    (tmp_path / "0.zip").write_bytes(pipe.getvalue())
    assert contents_of(tmp_path) == IMAGES


def test_a_comment_may_look_like_the_end_of_a_zip(tmp_path):
    data = zip_bytes(IMAGES.items())
    fake = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 9)
    (tmp_path / "0.zip").write_bytes(data[:-2] + struct.pack("<H", len(fake)) + fake)
    assert contents_of(tmp_path) == IMAGES


def test_a_program_that_extracts_itself_is_read(tmp_path):
    (tmp_path / "0.zip").write_bytes(b"MZ" + bytes(5000) + zip_bytes(IMAGES.items()))
    assert contents_of(tmp_path) == IMAGES


@pytest.mark.parametrize(
    ("name", "flags", "system", "key"),
    [
        ("é東.jpg".encode(), 1 << 11, 3, "é東.jpg"),
        ("é東.jpg".encode(), 0, 3, "é東.jpg"),
        ("é.jpg".encode("cp437"), 0, 0, "é.jpg"),
        (b"\xff\xfe.jpg", 1 << 11, 3, "\\udcff\\udcfe.jpg"),
        (b"folder\\a.jpg", 0, 0, "folder/a.jpg"),
        (b"a\\b.jpg", 0, 3, "a\\\\b.jpg"),
        (b"a\nb\0.jpg", 0, 3, "a\\nb\\x00.jpg"),
    ],
)
def test_names_of_any_encoding_are_printable_keys(tmp_path, name, flags, system, key):
    placeholder = "x" * len(name)
    info = zipfile.ZipInfo(placeholder)
    info.create_system = system
    data = bytearray(zip_bytes([(info, b"1")]).replace(placeholder.encode(), name))
    record = data.index(b"PK\x01\x02")
    data[record + 8 : record + 10] = struct.pack("<H", flags)
    (tmp_path / "0.zip").write_bytes(data)
    assert contents_of(tmp_path) == {key: b"1"}


def test_an_empty_zip_holds_nothing(tmp_path):
    (tmp_path / "0.zip").write_bytes(zip_bytes([]))
    (tmp_path / "1.zip").write_bytes(zip_bytes([("a.jpg", b"1")]))
    assert contents_of(tmp_path) == {"a.jpg": b"1"}


def test_a_change_of_a_member_renames_its_shards(tmp_path):
    path = tmp_path / "0.zip"
    path.write_bytes(zip_bytes(IMAGES.items()))
    before = [shard.fingerprint for shard in open_source(str(path)).shards()]
    path.write_bytes(zip_bytes((IMAGES | {"c": b"new"}).items()))
    assert not set(before) & {shard.fingerprint for shard in open_source(str(path)).shards()}


@pytest.mark.parametrize("how", ["replaced", "rewritten", "cut"])
def test_a_zip_that_changes_while_it_is_read_is_not_mixed(tmp_path, how):
    old, new = (zip_bytes((f"{i}.jpg", char * (3 << 20)) for i in range(4)) for char in (b"o", b"n"))
    path = tmp_path / "0.zip"
    path.write_bytes(old)
    (shard,) = open_source(str(path)).shards()
    records = read_shard(shard)
    assert set(next(records).data) == set(b"o")
    if how == "replaced":
        (tmp_path / "1.zip").write_bytes(new)
        (tmp_path / "1.zip").rename(path)
    else:
        path.write_bytes(new if how == "rewritten" else old[:-1])
    with pytest.raises(ChangedError, match=r"0.zip changed since it was listed; run again"):
        list(records)


@pytest.mark.parametrize("new", [[("a.jpg", b"new")], [("a", b"longer")], [("b.jpg", b"old")]])
def test_another_zip_of_the_same_size_is_not_taken_for_the_listed_one(tmp_path, new):
    old = zip_bytes([("a.jpg", b"old")])
    path = tmp_path / "0.zip"
    path.write_bytes(old)
    (shard,) = open_source(str(path)).shards()
    changed = zip_bytes(new)
    path.write_bytes(changed + bytes(len(old) - len(changed)))
    if new[0] == ("b.jpg", b"old"):  # The content is what was listed, byte for byte.
        assert [record.data for record in read_shard(shard)] == [b"old"]
    else:
        with pytest.raises(ChangedError, match=r"0.zip changed since it was listed; run again"):
            list(read_shard(shard))


def test_a_zip_in_s3_that_changed_since_it_was_listed_is_not_read():
    with s3_server() as server:
        server.objects["0.zip"] = zip_bytes([("a.jpg", b"1")])
        (shard,) = open_source("s3://bucket/0.zip", storage=server.storage).shards()
        server.objects["0.zip"] = zip_bytes([("a.jpg", b"2")])
        with pytest.raises(ChangedError, match=r"0.zip changed since it was listed; run again"):
            list(read_shard(shard))


def test_a_possible_mask_of_a_sample_is_not_labelled_unless_the_component_is_named(tmp_path):
    members = [(name, b"1") for name in ("0.jpg", "0.png", "1.jpg", "2.png", "3.png")]
    write_folder(tmp_path, {"a.zip": zip_bytes(members)})
    found = {record.key: record.error for shard in open_source(str(tmp_path)).shards() for record in read_shard(shard)}
    assert str(found.pop("0.png")).startswith("a second image of the sample of 0.jpg; name the one that counts by")
    assert set(found.values()) == {None}
    assert set(contents_of(tmp_path, component="jpg;png")) == {"0.jpg", "0.png", "1.jpg", "2.png", "3.png"}
