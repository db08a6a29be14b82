"""Images as base64 or data: URIs in a column of text."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.records import Columns
from cluster.records.base import EntryError
from cluster.records.inline_images import decode_inline, is_inline, max_characters
from tests.cluster.records.archives import contents_of

BEGINNINGS = {
    "jpeg": b"\xff\xd8\xff\xe0",
    "png": b"\x89PNG\r\n\x1a\n",
    "gif": b"GIF89a",
    "webp": b"RIFF\0\0\0\0WEBP",
    "tiff": b"II*\0",
    "tiff, big-endian": b"MM\0*",
    "avif": b"\0\0\0\x20ftypavif",
    "jpeg xl": b"\0\0\0\x0cJXL \r\n",
}
JPEG = BEGINNINGS["jpeg"] + bytes(range(256))
PATHS = ["a.jpg", "/9j/photos/a.jpg", "/9j/" + "photos/" * 20 + "IMG_1", "/9j/" + "x" * 40, "x" * 5000, "https://h/a"]


def text(data):
    return base64.b64encode(data).decode()


def write(path, values, name="image"):
    pq.write_table(pa.table({name: values}), path)
    return path


@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=list(BEGINNINGS))
def test_base64_of_usual_images_is_recognised_and_decoded(beginning):
    data = beginning + bytes(100)
    assert is_inline(text(data))
    assert decode_inline(text(data), 200) == data


@pytest.mark.parametrize("path", PATHS)
def test_paths_and_urls_are_not_taken_for_images(path):
    assert not is_inline(path)


@given(data=st.binary(max_size=400), media=st.sampled_from(["", "image/png", "image/svg+xml;charset=utf-8"]))
@example(data=b"", media="")
def test_a_data_uri_gives_its_bytes_or_a_reason(data, media):
    for uri in (f"data:{media};base64,{text(data)}", f"DATA:{media},{quote(data)}"):
        assert is_inline(uri)
        if data:
            assert decode_inline(uri, 400) == data
        else:
            with pytest.raises(EntryError, match="without data"):
                decode_inline(uri, 400)


@given(data=st.binary(min_size=60, max_size=1000))
def test_no_image_within_the_limit_takes_more_characters_than_that(data):
    wrapped = base64.encodebytes(data).decode()
    assert len(f"data:image/jpeg;base64,{wrapped}") <= max_characters(len(data))
    assert decode_inline(f"data:image/jpeg;base64,{wrapped}", len(data)) == data


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("data:image/png;base64", "without a comma"),
        ("data:" + "x" * 3000 + ",abc", "without a comma"),
        ("data:;base64,abc", "a data: URI that is damaged or cut off"),
        ("data:;base64,ab!d", "a data: URI that is damaged or cut off"),
        (text(JPEG)[:-7], "base64 that is damaged or cut off"),
        (text(JPEG + bytes(100)), "too large: 360 bytes, at most 300 are read"),
    ],
)
def test_what_is_no_image_after_all_is_a_reason(uri, reason):
    assert is_inline(uri)
    with pytest.raises(EntryError, match=reason):
        decode_inline(uri, 300)


def test_a_column_of_texts_may_hold_images_and_paths(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    large = JPEG + bytes(100_000)
    values = [text(JPEG), f"data:image/jpeg;base64,{text(large)}", "a.jpg", text(large), "x" * 70_000]
    assert list(contents_of(write(tmp_path / "t.parquet", values)).items()) == [
        ("t/0", JPEG), ("t/1", large), ("t/2", b"1"), ("t/3", large),
        ("t/4", "the path is too long: 70000 bytes, at most 65536 are read"),
    ]  # fmt: skip
    limited = contents_of(tmp_path / "t.parquet", max_bytes=300)
    assert [limited["t/0"], limited["t/2"]] == [JPEG, b"1"]
    assert "too l" in str(limited["t/1"])
    assert "too l" in str(limited["t/3"])


def test_an_image_as_text_is_never_a_key(tmp_path):
    table = write(tmp_path / "t.parquet", [text(JPEG), "data:,x"], name="path")
    assert contents_of(table, columns=Columns(image="path")) == {"t/0": JPEG, "t/1": b"x"}
    structs = [{"bytes": None, "path": text(JPEG)}, {"bytes": b"2", "path": "data:,x"}]
    assert contents_of(write(tmp_path / "t.parquet", structs)) == {"t/0": JPEG, "t/1": b"2"}
