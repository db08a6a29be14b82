"""JPEG: trouble with metadata is no damage, trouble with pixels is, and colours and orientation come from one place."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fewshot.errors import UnreadableImageError
from fewshot.images import decode
from fewshot.images.jpeg import _scan_marks
from fewshot.images.limits import MAX_SCANS
from tests.strange_files import encode, oriented, photo

PLAIN = encode(photo(), "JPEG")
SCAN = PLAIN.index(b"\xff\xda")
SCAN_END = SCAN + 2 + int.from_bytes(PLAIN[SCAN + 2 : SCAN + 4])


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body


def icc(number: int, of: int, body: bytes = b"x" * 50) -> bytes:
    return segment(0xE2, b"ICC_PROFILE\0" + bytes([number, of]) + body)


def adobe(transform: int) -> bytes:
    return segment(0xEE, b"Adobe" + bytes(6) + bytes([transform]))


def with_segments(*segments: bytes, data: bytes = PLAIN) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


def with_scan_parameters(*values: int) -> bytes:
    return PLAIN[: SCAN_END - 3] + bytes(values) + PLAIN[SCAN_END:]


def pixels_of(data: bytes, **options) -> np.ndarray:
    return np.asarray(decode(data, **options))


HARMLESS = {
    "no spectrum": with_scan_parameters(0, 0, 0),
    "spectrum from 1": with_scan_parameters(1, 63, 0),
    "approximation": with_scan_parameters(0, 63, 0x11),
    "one profile chunk of two": with_segments(icc(1, 2)),
    "the same chunk twice": with_segments(icc(1, 1), icc(1, 1)),
    "a chunk of number 0": with_segments(icc(0, 1)),
    "an empty chunk": with_segments(icc(1, 1, b"")),
    "a chunk beyond the last": with_segments(icc(1, 1), icc(3, 2)),
    "an unknown code for colours": with_segments(adobe(7)),
    "a code for four colours": with_segments(adobe(2)),
    "a segment for colours that is cut off": with_segments(segment(0xEE, b"Adobe")),
    "another APP14": with_segments(segment(0xEE, b"camera")),
    "bytes between segments": PLAIN.replace(b"\xff\xdb", b"\0\x11\x22\xff\xdb", 1),
    "JFIF version 2": PLAIN.replace(b"JFIF\0\x01", b"JFIF\0\x02"),
    "broken EXIF": with_segments(segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")),
    "broken XMP": with_segments(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta")),
    "a comment of no length": with_segments(segment(0xFE, b"")),
    "padding at the end": PLAIN[:-2] + bytes(64) + PLAIN[-2:],
    "a tail": PLAIN + b"appended by a camera" * 99,
    "several at once": with_segments(
        icc(0, 1), adobe(7), data=with_scan_parameters(0, 0, 0)[:-2] + bytes(9) + b"\xff\xd9"
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_trouble_with_metadata_is_no_damage(name):
    np.testing.assert_array_equal(pixels_of(HARMLESS[name]), pixels_of(PLAIN))
    np.testing.assert_array_equal(pixels_of(HARMLESS[name], min_side=20), pixels_of(PLAIN, min_side=20))


@pytest.mark.parametrize("name", ["no spectrum", "one profile chunk of two", "several at once"])
def test_damage_is_found_behind_trouble_with_metadata(name):
    data = HARMLESS[name]
    piece = PLAIN[SCAN_END + 200 : SCAN_END + 260]
    hole = data.replace(piece, bytes(byte ^ 0xFF for byte in piece))
    for broken in (hole, data[: len(data) * 3 // 4], data[: len(data) * 3 // 4] + b"\xff\xd9"):
        with pytest.raises(UnreadableImageError, match=r"^(truncated|damaged) JPEG"):
            decode(broken)


def test_orientation_is_kept_by_repairs():
    data = with_segments(icc(0, 1), data=oriented(photo(), 6))
    np.testing.assert_array_equal(pixels_of(data), pixels_of(oriented(photo(), 6)))


def test_parameters_of_progressive_scans_are_left_alone():
    data = encode(photo(), "JPEG", progressive=True)
    repaired = with_segments(icc(0, 1), data=data)
    np.testing.assert_array_equal(pixels_of(repaired), pixels_of(data))


def exif(orientation: int) -> bytes:
    data = oriented(photo(), orientation)
    start = data.index(b"\xff\xe1")
    return data[start : start + 2 + int.from_bytes(data[start + 2 : start + 4])]


@pytest.mark.parametrize(("first", "second"), [(6, 1), (1, 6), (3, 8), (8, 3)])
def test_of_two_exif_segments_the_first_counts(first, second):
    found = pixels_of(with_segments(exif(first), exif(second)))
    np.testing.assert_array_equal(found, pixels_of(oriented(photo(), first)))
    with Image.open(BytesIO(with_segments(exif(first), exif(second)))) as image:
        assert image.getexif()[0x0112] == first


def test_exif_between_other_segments_is_found():
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")
    expected = pixels_of(oriented(photo(), 6))
    for order in ((xmp, exif(6)), (exif(6), xmp), (segment(0xE1, b"Exif??"), exif(6)), (icc(0, 1), exif(6))):
        np.testing.assert_array_equal(pixels_of(with_segments(*order)), expected)


def test_ink_is_inverted_only_by_adobes_segment():
    inverted = encode(photo().convert("CMYK"), "JPEG", quality=95)
    start = inverted.index(b"\xff\xee")
    end = start + 2 + int.from_bytes(inverted[start + 2 : start + 4])
    plain = inverted[:start] + inverted[end:]
    expected = np.asarray(Image.fromarray(255 - np.asarray(photo().convert("CMYK")), mode="CMYK").convert("RGB"))
    assert np.abs(pixels_of(plain).astype(int) - expected).mean() < 6
    other = plain[:2] + segment(0xEE, b"camera" * 3) + plain[2:]
    np.testing.assert_array_equal(pixels_of(other), pixels_of(plain))
    unknown = inverted[: start + 15] + b"\x07" + inverted[start + 16 :]
    assert decode(unknown).size == (96, 64)


def with_frame(marker: int, precision: int = 8) -> bytes:
    start = PLAIN.index(b"\xff\xc0")
    return PLAIN[: start + 1] + bytes([marker]) + PLAIN[start + 2 : start + 4] + bytes([precision]) + PLAIN[start + 5 :]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (with_frame(0xF7), "JPEG-LS"),
        (with_frame(0xC1, 12), "JPEG with 12 bits a sample"),
        (with_frame(0xC3, 16), "JPEG with 16 bits a sample"),
        (with_frame(0xC5), "hierarchical JPEG"),
    ],
)
def test_other_processes_are_named(data, kind):
    with pytest.raises(UnreadableImageError, match=f"^{kind} is not read; convert it to"):
        decode(data)


def test_scans_are_counted_before_a_header_is_read():
    data = PLAIN[:SCAN] + (PLAIN[SCAN:SCAN_END] + b"pixels") * (MAX_SCANS + 1)
    with pytest.raises(UnreadableImageError, match=f"^refused: a JPEG of more than {MAX_SCANS} scans$"):
        decode(data)


def test_marks_in_previews_and_behind_the_image_are_no_scans():
    """Phones append videos of many megabytes, in which the two bytes of the mark occur by chance."""
    marks = b"\xff\xda" * (MAX_SCANS + 1)
    pixels = np.asarray(decode(PLAIN))
    for data in (PLAIN + marks, with_segments(segment(0xE2, b"MPF\0" + marks))):
        np.testing.assert_array_equal(decode(data), pixels)


@given(st.lists(st.sampled_from([b"\xff", b"\xda", b"\xff\xda", b"\0"]), min_size=1, max_size=40))
def test_marks_of_scans_are_counted_at_even_and_odd_places(parts):
    data = b"".join(parts)
    assert _scan_marks(data) == data.count(b"\xff\xda")
