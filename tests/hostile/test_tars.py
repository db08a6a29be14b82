"""Tars made to loop, to grow or to lead elsewhere end as records with a reason, in time that their size explains."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.records import open_source, packed_tar, read_shard
from cluster.records.tar_headers import MAX_NAME_BYTES, check_records
from tests.cluster.records.archives import contents_of, records_of, tar_bytes


def record(key: str, value: str) -> bytes:
    """One line of an extended header, which begins with its own length."""
    rest = f" {key}={value}\n".encode()
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


def extended(body: bytes, *, name: str = "a.jpg", data: bytes = b"x", kind: bytes = tarfile.XHDTYPE) -> bytes:
    """A tar of one member with an extended header before it."""
    header = tarfile.TarInfo("header")
    header.type, header.size = kind, len(body)
    return header.tobuf() + body + bytes(-len(body) % 512) + tar_bytes([(name, data)])


def zstandard(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def reasons(tmp_path, data: bytes, name: str = "0.tar", **options: object) -> list[str]:
    """The reasons of all records."""
    (tmp_path / name).write_bytes(data)
    records = records_of(tmp_path / name, **options)
    assert all(record.data is None for record in records)
    return [str(record.error) for record in records]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE])
@pytest.mark.parametrize(
    "body",
    [
        b"1" * (MAX_NAME_BYTES - 1),
        b"2 " * (MAX_NAME_BYTES // 2 - 1) + b"=",
        record("comment", "7" * 1_000_000),
        b"9" * 7 + b" a=b\n",
        b"12 novalue..\n",
    ],
)
def test_an_extended_header_that_would_take_hours_is_refused(tmp_path, body, kind):
    (reason,) = reasons(tmp_path, extended(body, kind=kind))
    assert "an extended header" in reason


def test_an_extended_header_of_the_usual_kind_is_read(tmp_path):
    name = "ä" * 200 + ".jpg"
    body = record("path", name) + record("mtime", "1700000000.123") + record("SCHILY.xattr.user.k", "v\nw")
    (tmp_path / "0.tar").write_bytes(extended(body))
    assert contents_of(tmp_path / "0.tar") == {name: b"x"}


@given(records=st.lists(st.tuples(st.from_regex(r"[a-z.]{1,9}", fullmatch=True), st.text(max_size=40)), max_size=5))
def test_what_python_writes_as_extended_headers_is_never_refused(records):
    header = tarfile.TarInfo("a")
    header.pax_headers = dict(records)
    written = header.create_pax_header(header.get_info(), "utf-8")
    check_records(written[512:-512] if len(written) > 512 else b"")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_headers_within_headers_come_to_an_end(tmp_path, kind):
    header = tarfile.TarInfo("header")
    header.type = kind
    (reason,) = reasons(tmp_path, header.tobuf() * 5000 + bytes(1024))
    assert "damaged or cut off" in reason


@pytest.mark.parametrize("size", [-1, -10_000, -(2**40)])
def test_a_size_below_nothing_does_not_lead_back(tmp_path, size):
    (tmp_path / "0.tar").write_bytes(extended(record("size", str(size))))
    records = records_of(tmp_path / "0.tar")
    assert len(records) <= 2
    assert "damaged or cut off" in str(records[-1].error)


@pytest.mark.parametrize(
    "fields",
    [
        {"GNU.sparse.size": str(200 << 20), "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,1"},
        {"GNU.sparse.size": "-5", "GNU.sparse.map": "0,-7"},
        {"GNU.sparse.size": "5", "GNU.sparse.map": "0,1,x"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(10**13)},
    ],
)
def test_a_sparse_member_is_not_filled_up(tmp_path, fields):
    (reason,) = reasons(tmp_path, extended(b"".join(record(*field) for field in fields.items())))
    assert reason == "not a regular file" or "damaged or cut off" in reason


def test_a_packed_member_larger_than_the_limit_is_passed_over_and_not_held(tmp_path):
    packed = gzip.compress(tar_bytes([("bomb.jpg", bytes(32 << 20)), ("a.jpg", b"x")]), 1)
    (tmp_path / "0.tar.gz").write_bytes(packed)
    assert len(packed) < 1 << 20
    contents = contents_of(tmp_path / "0.tar.gz", max_bytes=1 << 20)
    assert contents == {"bomb.jpg": "too large: 33554432 bytes, at most 1048576 are read", "a.jpg": b"x"}


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress, zstandard], ids=["bzip2", "xz", "Zstandard"])
def test_a_packed_tar_that_expands_without_end_is_left_early(tmp_path, pack, monkeypatch):
    monkeypatch.setattr(packed_tar, "_SMALL_FILE", 1 << 12)
    (tmp_path / "0.tar").write_bytes(pack(tar_bytes([("a.jpg", b"x"), ("bomb.jpg", bytes(16 << 20))])))
    assert (tmp_path / "0.tar").stat().st_size < 4_000
    contents = contents_of(tmp_path / "0.tar", max_bytes=1 << 20)
    assert contents.pop("a.jpg") == b"x"
    assert contents.pop("bomb.jpg") == "too large: 16777216 bytes, at most 1048576 are read"
    assert "expands to more than 1100 times its size" in str(contents.pop("0.tar"))
    assert not contents


def test_unpacking_takes_no_more_memory_than_the_limit(tmp_path):
    packed = bytearray(lzma.compress(tar_bytes([("a.jpg", b"x")])))
    header = slice(12, 12 + 4 * packed[12])  # of the first block, behind that of the stream; its CRC-32 follows
    at = packed.index(b"\x21\x01", header.start) + 2  # LZMA2 with one byte of properties: the size of the dictionary
    packed[at] = 40  # 4 GiB
    packed[header.stop : header.stop + 4] = zlib.crc32(packed[header]).to_bytes(4, "little")
    (reason,) = reasons(tmp_path, bytes(packed))
    assert "Memory usage limit exceeded" in reason


def test_members_are_not_remembered_however_many_there_are(tmp_path):
    import tracemalloc

    (tmp_path / "0.tar").write_bytes(b"".join(tarfile.TarInfo(f"{n}.jpg").tobuf() for n in range(4000)) + bytes(1024))
    (shard,) = open_source(str(tmp_path / "0.tar")).shards()
    records = read_shard(shard)
    next(records)
    tracemalloc.start()
    assert sum(1 for _ in records) == 3999
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 100 * 4000, "a TarInfo takes some 500 bytes"


@given(
    names=st.lists(
        st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=300),
        min_size=1, max_size=4, unique=True,
    )
)  # fmt: skip
def test_a_member_of_any_name_is_one_line_and_one_record(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("tar") / "0.tar"
    path.write_bytes(tar_bytes([(f"x{name}.jpg", b"x") for name in names]))
    keys = [record.key for record in records_of(path)]
    assert len(set(keys)) == len(names)
    assert all(key.isprintable() or not any(char in key for char in "\n\r\x1b\0\u2028") for key in keys)
