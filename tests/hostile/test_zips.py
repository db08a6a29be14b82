"""Zips made to expand, to overlap, to lead elsewhere or to hide members end as records with a reason, in time."""

from __future__ import annotations

import bz2
import stat
import struct
import tracemalloc
import zipfile
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster.records import open_source, read_shard
from cluster.records.zip import MAX_EXPANSION
from tests.cluster.records.archives import contents_of, records_of, zip_bytes

END = b"PK\x05\x06"
FIELDS = {
    "made_by": (4, "<H"),
    "flags": (8, "<H"),
    "method": (10, "<H"),
    "crc": (16, "<L"),
    "packed": (20, "<L"),
    "size": (24, "<L"),
    "name_bytes": (28, "<H"),
    "extra_bytes": (30, "<H"),
    "comment_bytes": (32, "<H"),
    "attributes": (38, "<L"),
    "offset": (42, "<L"),
    "disk": (4, "<H"),
    "members": (10, "<H"),
    "directory_bytes": (12, "<L"),
    "directory_offset": (16, "<L"),
}
NO_BEGINNING = "damaged or cut off: its beginning is missing"
CONTENTS = {"a.jpg": b"first", "b.jpg": b"second" * 30, "c.jpg": b"third"}


def altered(data, member=0, mark=b"PK\x01\x02", **fields):
    """The zip with other numbers in one record of its directory, or in its end record."""
    changed = bytearray(data)
    at = -1
    for _ in range(member + 1):
        at = data.index(mark, at + 1)
    for name, value in fields.items():
        offset, form = FIELDS[name]
        struct.pack_into(form, changed, at + offset, value)
    return bytes(changed)


def contents_of_bytes(tmp_path, data, **options):
    (tmp_path / "0.zip").write_bytes(data)
    return contents_of(tmp_path / "0.zip", **options)


def reason_of(tmp_path, data, **options):
    """The reason against the first of the members; the others are read."""
    contents = contents_of_bytes(tmp_path, data, **options)
    reason = contents.pop("a.jpg")
    assert contents == {key: content for key, content in CONTENTS.items() if key != "a.jpg"}
    return reason


def deflated(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def packed_zip(packed, **fields):
    """A zip whose first member has these packed bytes, under these claims."""
    data = zip_bytes([("a.jpg", packed), *list(CONTENTS.items())[1:]])
    return altered(data, **fields)


def test_an_encrypted_member_is_refused(tmp_path):
    reason = reason_of(tmp_path, altered(zip_bytes(CONTENTS.items()), flags=1))
    assert reason == "encrypted; decrypt the archive first"


@pytest.mark.parametrize(("method", "name"), [(9, "Deflate64"), (14, "LZMA"), (93, "Zstandard"), (77, "method 77")])
def test_a_compression_that_is_not_read_is_named(tmp_path, method, name):
    reason = reason_of(tmp_path, altered(zip_bytes(CONTENTS.items()), method=method))
    assert reason == f"compressed with {name}, which is not read; expected stored, deflate or bzip2"


def test_content_that_is_not_what_was_stored_is_refused(tmp_path):
    data = zip_bytes(CONTENTS.items())
    assert reason_of(tmp_path, data.replace(b"first", b"worst")) == "damaged: its checksum (CRC-32) is wrong"
    assert reason_of(tmp_path, altered(data, size=4)) == "damaged: 4 bytes are stored as 5"
    assert reason_of(tmp_path, altered(data, method=8)).startswith("damaged: Error -3 while decompressing")
    assert reason_of(tmp_path, altered(data, method=12)).startswith("damaged: Invalid data")


@pytest.mark.parametrize(("pack", "method"), [(deflated, 8), (bz2.compress, 12)])
@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        (10, "damaged: it holds more than 10 bytes, the directory claims 10"),
        (90_000, "damaged: it holds 50000 bytes, the directory claims 90000"),
    ],
)
def test_a_member_that_expands_to_more_or_less_than_it_claims_is_refused(tmp_path, pack, method, claim, reason):
    content = b"x" * 50_000
    packed = pack(content)
    data = packed_zip(packed, method=method, size=claim, crc=zlib.crc32(content))
    assert reason_of(tmp_path, data) == reason


@pytest.mark.parametrize(("pack", "method"), [(deflated, 8), (bz2.compress, 12)])
def test_packed_bytes_that_are_cut_off_are_refused(tmp_path, pack, method):
    content = bytes(range(256)) * 20
    packed = pack(content)[:-30]
    data = packed_zip(packed, method=method, size=len(content), crc=zlib.crc32(content))
    assert reason_of(tmp_path, data).startswith("damaged: it holds")


def test_a_member_that_expands_beyond_measure_is_not_unpacked(tmp_path):
    content = bytes(100 << 20)
    packed = bz2.compress(content)
    data = packed_zip(packed, method=12, size=len(content), crc=zlib.crc32(content))
    tracemalloc.start()
    reason = reason_of(tmp_path, data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reason == (f"its {len(packed)} bytes would expand to {100 << 20}, more than {MAX_EXPANSION} times as many")
    assert peak < 20 << 20


def test_a_member_that_claims_little_and_expands_to_much_is_cut_off(tmp_path):
    packed = deflated(bytes(100 << 20))
    tracemalloc.start()
    reason = reason_of(tmp_path, packed_zip(packed, method=8, size=100, crc=0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reason == "damaged: it holds more than 100 bytes, the directory claims 100"
    assert peak < 20 << 20


def test_the_best_that_deflate_can_do_is_read(tmp_path):
    content = bytes(10 << 20)
    (tmp_path / "0.zip").write_bytes(zip_bytes([("white.bmp", content)], method=zipfile.ZIP_DEFLATED))
    assert contents_of(tmp_path) == {"white.bmp": content}


@pytest.mark.parametrize("fields", [{"size": 0xFFFFFFFE}, {"packed": 0xFFFFFFFE, "size": 0xFFFFFFFE}])
def test_an_absurd_size_is_refused(tmp_path, fields):
    data = altered(zip_bytes(CONTENTS.items()), **fields)
    assert reason_of(tmp_path, data) == f"too large: {0xFFFFFFFE} bytes, at most {256 << 20} are read"


def test_packed_bytes_beyond_the_limit_are_not_held(tmp_path):
    data = altered(zip_bytes(CONTENTS.items(), method=8), packed=300 << 20)
    assert reason_of(tmp_path, data) == f"too large: {300 << 20} bytes, at most {256 << 20} are read"


def test_a_member_beyond_the_directory_is_refused(tmp_path):
    data = altered(zip_bytes(CONTENTS.items()), offset=0x7FFFFFFF)
    assert reason_of(tmp_path, data) == "damaged: its content would lie outside the file"


def test_a_member_that_is_not_where_the_directory_says_is_refused(tmp_path):
    data = altered(zip_bytes(CONTENTS.items()), offset=3)
    assert reason_of(tmp_path, data) == "damaged: it is not where the directory says"
    data = altered(zip_bytes(CONTENTS.items()), offset=zip_bytes(CONTENTS.items()).index(b"PK\x03\x04", 10))
    assert reason_of(tmp_path, data) == "damaged: its checksum (CRC-32) is wrong"


def test_members_that_share_their_bytes_cannot_multiply_them(tmp_path):
    """A kernel that hundreds of members point to, as in Fifield's bomb."""
    content = bytes(1 << 20)
    one = zip_bytes([("a.jpg", content)], method=8)
    start, end = one.index(b"PK\x01\x02"), one.index(END)
    record, count = one[start:end], 500
    records = record * count
    data = one[:start] + records + struct.pack("<4s4H2LH", END, 0, 0, count, count, len(records), start, 0)
    (tmp_path / "0.zip").write_bytes(data)
    shards = list(open_source(str(tmp_path / "0.zip")).shards())
    assert sum(shard.size for shard in shards) == count
    errors = [record.error for shard in shards for record in read_shard(shard)]
    assert errors.count(None) == 1
    assert set(errors[1:]) == {"damaged: the members overlap, they claim more bytes than the file has"}


def test_members_that_lead_out_of_the_archive_are_refused(tmp_path):
    def special(name, mode, system=3):
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = system, mode << 16
        return info

    members = [
        ("../up.jpg", b"x"),
        ("a/../../up.jpg", b"x"),
        ("/etc/up.jpg", b"x"),
        (special("link.jpg", stat.S_IFLNK | 0o777), b"/etc/passwd"),
        (special("apple.jpg", stat.S_IFLNK | 0o777, system=19), b"/etc/passwd"),
        (special("device.jpg", stat.S_IFCHR), b""),
        (special("pipe.jpg", stat.S_IFIFO), b""),
        ("folder.jpg/", b"with content"),
        ("", b"x"),
        ("a.jpg", b"fine"),
    ]
    dos = zipfile.ZipInfo("..|..|up.jpg")
    dos.create_system = 0
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "0.zip").write_bytes(zip_bytes([*members, (dos, b"x")]).replace(b"..|..|up", b"..\\..\\up"))
    contents = contents_of(folder)
    assert contents.pop("a.jpg") == b"fine"
    assert contents == {
        "../up.jpg": "the name points outside the archive",
        "a/../../up.jpg": "the name points outside the archive",
        "/etc/up.jpg": "the name points outside the archive",
        "../../up.jpg": "the name points outside the archive",
        "link.jpg": "a link, not a file",
        "apple.jpg": "a link, not a file",
        "device.jpg": "not a regular file",
        "pipe.jpg": "not a regular file",
        "folder.jpg/": "not a regular file",
        "": "an empty name",
    }
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["0.zip", "archive"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_gives_two_records(tmp_path):
    (tmp_path / "0.zip").write_bytes(zip_bytes([("a.jpg", b"1"), ("a.jpg", b"2"), ("a.jpg", b"2")]))
    assert [record.data for record in records_of(tmp_path)] == [b"1", b"2", b"2"]
    shards = list(open_source(str(tmp_path), shard_records=1).shards())
    assert len({shard.fingerprint for shard in shards}) == len(shards) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: b"", "not a zip file, or cut off: it has no end record"),
        (lambda data: b"garbage" * 1000, "not a zip file, or cut off: it has no end record"),
        (lambda data: data[: data.index(END)], "not a zip file, or cut off: it has no end record"),
        (lambda data: data[50:], NO_BEGINNING),
        (lambda data: altered(data, mark=END, disk=2), "one part of a split zip file; join its parts first"),
        (lambda data: altered(data, mark=END, directory_bytes=0x7FFFFFFF), NO_BEGINNING),
        (lambda data: altered(data, mark=END, directory_offset=0x7FFFFFFF), NO_BEGINNING),
        (lambda data: data.replace(END, b"PK\x06\x07" + bytes(16) + END), "no zip64 end record"),
    ],
)  # fmt: skip
def test_a_zip_that_cannot_be_listed_is_one_reason(tmp_path, change, reason):
    contents = contents_of_bytes(tmp_path, change(zip_bytes(CONTENTS.items())))
    assert list(contents) == ["0.zip"]
    assert reason in str(contents["0.zip"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: altered(data, mark=END, members=2), "its directory lists 3 members, its end record claims 2"),
        (lambda data: altered(data, mark=END, members=9), "its directory lists 3 members, its end record claims 9"),
        (lambda data: data + zip_bytes([])[:10], "more data follows its end record and is not read"),
        (lambda data: zip_bytes([("hidden.jpg", b"1")]) + data, "another zip file precedes the last one in it"),
    ],
)  # fmt: skip
def test_members_that_the_directory_does_not_list_are_a_reason(tmp_path, change, reason):
    contents = contents_of_bytes(tmp_path, change(zip_bytes(CONTENTS.items())))
    assert reason in str(contents.pop("0.zip"))
    assert contents == CONTENTS


@pytest.mark.parametrize("field", ["name_bytes", "extra_bytes", "comment_bytes"])
def test_a_damaged_record_ends_the_directory_with_a_reason(tmp_path, field):
    data = altered(zip_bytes(CONTENTS.items()), member=1, **{field: 0xFFFF})
    contents = contents_of_bytes(tmp_path, data)
    reason = str(contents.pop("0.zip"))
    assert "its directory cannot be read after a.jpg: a record that is cut off" in reason
    assert contents == {"a.jpg": b"first"}


def test_a_record_that_needs_64_bits_and_has_none_ends_the_directory(tmp_path):
    contents = contents_of_bytes(tmp_path, altered(zip_bytes(CONTENTS.items()), member=2, size=0xFFFFFFFF))
    assert "cannot be read after b.jpg: a record without its zip64 sizes" in str(contents.pop("0.zip"))
    assert contents == {key: CONTENTS[key] for key in ("a.jpg", "b.jpg")}


def test_a_directory_of_many_members_is_not_held_in_memory(tmp_path):
    (tmp_path / "0.zip").write_bytes(zip_bytes((f"{number}.jpg", b"x") for number in range(4000)))
    shards = open_source(str(tmp_path / "0.zip"), shard_records=1).shards()
    next(shards)
    tracemalloc.start()
    assert sum(1 for _ in shards) == 3999
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 50 * 4000


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 700), bit=st.integers(0, 7))
@example(at=0, bit=0)
def test_a_flipped_bit_never_gives_other_bytes_nor_loses_a_member(tmp_path_factory, at, bit):
    data = bytearray(zip_bytes(CONTENTS.items(), method=zipfile.ZIP_DEFLATED))
    data[at % len(data)] ^= 1 << bit
    path = tmp_path_factory.mktemp("flipped") / "0.zip"
    path.write_bytes(data)
    source = open_source(str(path))
    records = records_of(source)
    assert all(record.data in CONTENTS.values() for record in records if record.data is not None)
    assert all(record.error for record in records if record.data is None)
    assert len(records) + source.skipped.count >= len(CONTENTS) or records[-1].key == "0.zip"


@example(data=b"PK\x06\x07", tail=bytes(18))
@given(data=st.binary(max_size=300), tail=st.binary(min_size=18, max_size=60))
def test_anything_that_ends_like_a_zip_comes_to_an_end(tmp_path_factory, data, tail):
    path = tmp_path_factory.mktemp("random") / "0.zip"
    path.write_bytes(data + END + tail)
    for record in records_of(path):
        assert record.error


@given(
    names=st.lists(
        st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=300),
        min_size=1, max_size=4, unique=True,
    )
)  # fmt: skip
def test_a_member_of_any_name_is_one_line_and_one_record(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("zip") / "0.zip"
    path.write_bytes(zip_bytes([(f"x{name}.jpg", b"x") for name in names]))
    keys = [record.key for record in records_of(path)]
    assert len(set(keys)) == len(names)
    assert all(key.isprintable() or not any(char in key for char in "\n\r\x1b\0\u2028") for key in keys)
