"""Tars packed in the usual ways are read whatever they are called; others are named."""

from __future__ import annotations

import bz2
import gzip
import lzma

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import StorageError
from cluster.records import open_source, read_shard, reading
from cluster.records.packed_tar import PACKED_SUFFIXES
from cluster.records.signatures import packing_of
from tests.cluster.faulty import fails, faults, instant_retry
from tests.cluster.records.archives import contents_of, tar_bytes, zip_bytes

IMAGES = {"0/a.jpg": b"a" * 700, "0/b.png": bytes(range(256)) * 300, "c": b""}
TAR = tar_bytes(IMAGES.items())


def zstandard(data):
    return pa.compress(data, codec="zstd", asbytes=True)


PACKERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "Zstandard": zstandard}
SKIPPABLE_FRAME = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"  # pzstd begins with one


def contents_of_bytes(data, name="0.tar", **options):
    with faults() as filesystem:
        filesystem.pipe_file(f"/r/{name}", data)
        return contents_of(f"faulty://r/{name}", **options)


@pytest.mark.parametrize("pack", PACKERS.values(), ids=list(PACKERS))
@pytest.mark.parametrize("name", ["0.tar", *(f"0{suffix}" for suffix in PACKED_SUFFIXES)])
def test_a_packed_tar_is_read_whatever_its_suffix(pack, name):
    assert contents_of_bytes(pack(TAR), name) == IMAGES


@pytest.mark.parametrize("between", [b"", bytes(8)])
@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_packed_streams_one_after_another_are_one(pack, between):
    assert contents_of_bytes(pack(TAR[:900]) + between + pack(TAR[900:])) == IMAGES


def test_frames_of_zstandard_one_after_another_are_one():
    assert contents_of_bytes(SKIPPABLE_FRAME + zstandard(TAR[:900]) + zstandard(TAR[900:])) == IMAGES


@given(share=st.floats(0, 1, exclude_max=True), packing=st.sampled_from(["bzip2", "xz", "Zstandard"]))
def test_a_packed_tar_that_is_cut_off_gives_what_is_whole_and_one_reason(share, packing):
    data = PACKERS[packing](TAR)
    contents = contents_of_bytes(data[: int(share * len(data))])
    assert "0.tar" in contents
    contents.pop("0.tar")
    assert list(contents.items()) == list(IMAGES.items())[: len(contents)]


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz"])
@pytest.mark.parametrize("more", ["no padding", "a second tar"])
def test_more_after_the_packed_tar_is_a_reason(packing, more):
    pack = PACKERS[packing]
    contents = contents_of_bytes(pack(TAR) + (b"garbage" if more == "no padding" else pack(TAR)))
    assert "what follows c cannot be read" in contents.pop("0.tar")
    assert contents == IMAGES


@pytest.mark.parametrize("more", [b"garbage", zstandard(TAR)], ids=["no padding", "a second tar"])
def test_more_after_a_tar_packed_with_zstandard_is_a_reason(more):
    """Here what was unpacked just before it may be lost with it."""
    contents = contents_of_bytes(zstandard(TAR) + more)
    assert "damaged or cut off" in contents.pop("0.tar")
    assert contents.items() <= IMAGES.items()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x04\x22\x4d\x18" + bytes(50), "packed with lz4"),
        (b"LZIP\x01" + bytes(50), "packed with lzip"),
        (b"\x1f\x9d\x90" + bytes(50), "packed with compress"),
        (zip_bytes([("a.jpg", b"1")]), "a zip file"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "a 7z archive"),
        (b"Rar!\x1a\x07\x01\0" + bytes(50), "a RAR archive"),
    ],
)
def test_what_is_no_tar_and_not_read_is_named(data, kind):
    (reason,) = contents_of_bytes(data).values()
    assert reason.startswith(kind)
    assert reason.endswith(
        "which is not read here; expected a tar, as it is or packed with gzip, bzip2, xz or Zstandard"
    )
    assert "damaged" not in reason


@pytest.mark.parametrize("name", ["BZhang.jpg", "BZh91.jpg", "LZIP.jpg", "PK.jpg", "7z.jpg", "Rar!.jpg", "PAR1.jpg"])
def test_the_name_of_the_first_member_is_not_taken_for_a_packing(name):
    data = tar_bytes([(name, b"1")])
    assert packing_of(data[:16]) is None
    assert contents_of_bytes(data) == {name: b"1"}


@pytest.mark.parametrize("pack", [bytes, *PACKERS.values()], ids=["as it is", *PACKERS])
def test_storage_trouble_is_tried_again_and_then_raised(pack, monkeypatch):
    monkeypatch.setattr(reading, "RETRY", instant_retry())
    with faults() as filesystem:
        filesystem.pipe_file("/r/0.tar", pack(TAR))
        (shard,) = open_source("faulty://r").shards()
        filesystem.plan["read"] = [fails(ConnectionResetError("cut"))]
        assert len(list(read_shard(shard))) == len(IMAGES)
        filesystem.plan["read"] = [fails(ConnectionResetError("cut"))] * 99
        with pytest.raises(StorageError, match=r"0\.tar"):
            list(read_shard(shard))


def test_the_dictionary_of_the_strongest_xz_is_not_too_large():
    strongest = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 64 << 20}]  # that of `xz -9`, packed faster
    assert contents_of_bytes(lzma.compress(TAR, filters=strongest), "0.tar.xz") == IMAGES
