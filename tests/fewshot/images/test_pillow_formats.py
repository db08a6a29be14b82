"""BMP, GIF and WebP: layouts that programs write, and files that are whole although their end is missing."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pytest

from fewshot.errors import UnreadableImageError
from fewshot.images import decode
from tests.strange_files import encode, photo

COLOURS = np.asarray(photo(21, 13))
MASKS = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)


def bmp(
    rows: np.ndarray, bits: int, *, masks: Sequence[int] = (), header_bytes: int = 40, upright: bool = False
) -> bytes:
    """A BMP of [H, bytes of a row] as stored, the last row first unless upright."""
    height = -len(rows) if upright else len(rows)
    stored = b"".join(row.tobytes() + bytes(-row.nbytes % 4) for row in (rows if upright else rows[::-1]))
    fields = (header_bytes, COLOURS.shape[1], height, 1, bits, 3 if masks else 0, len(stored), 0, 0, 0, 0)
    header = struct.pack("<IiiHHIIiiII", *fields) + struct.pack(f"<{len(masks)}I", *masks)
    header = header.ljust(header_bytes, b"\0")
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(stored), 0, 0, start) + header + stored


def with_alpha(value: int) -> np.ndarray:
    rows = np.dstack([COLOURS[..., ::-1], np.full(COLOURS.shape[:2], value, np.uint8)])
    return rows.reshape(len(rows), -1)


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(decode(data)).astype(int)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_fourth_byte_that_is_not_declared_is_no_alpha(value):
    for masks in ((), MASKS[:3]):
        np.testing.assert_array_equal(pixels_of(bmp(with_alpha(value), 32, masks=masks)), COLOURS)


@pytest.mark.parametrize("header_bytes", [56, 108, 124])
def test_alpha_that_is_empty_everywhere_hides_nothing(header_bytes):
    for value, shown in ((0, COLOURS), (255, COLOURS), (128, (COLOURS + 255.0) / 2)):
        data = bmp(with_alpha(value), 32, masks=MASKS, header_bytes=header_bytes)
        np.testing.assert_allclose(pixels_of(data), shown, atol=1)


def test_rows_in_either_order_are_the_same_picture():
    rows = COLOURS[..., ::-1].reshape(len(COLOURS), -1)
    for upright in (False, True):
        np.testing.assert_array_equal(pixels_of(bmp(rows, 24, upright=upright)), COLOURS)


@pytest.mark.parametrize(
    ("masks", "depths"), [((), (5, 5, 5)), ((0x7C00, 0x3E0, 0x1F), (5, 5, 5)), ((0xF800, 0x7E0, 0x1F), (5, 6, 5))]
)
def test_16_bits_are_scaled(masks, depths):
    red, green, blue = (COLOURS[..., band].astype(int) >> 8 - depth for band, depth in enumerate(depths))
    rows = (red << depths[1] + depths[2] | green << depths[2] | blue).astype("<u2")
    expected = np.dstack(
        [band * 255 / ((1 << depth) - 1) for band, depth in zip((red, green, blue), depths, strict=True)]
    )
    np.testing.assert_allclose(pixels_of(bmp(rows, 16, masks=masks)), expected, atol=1)


def test_other_layouts_are_named():
    for masks in ((0xF00, 0xF0, 0xF), (0x3FF00000, 0xFFC00, 0x3FF)):
        with pytest.raises(UnreadableImageError, match=r"^BMP of an unusual layout is not read; convert it to"):
            decode(bmp(with_alpha(0), 32, masks=masks))


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"save_all": True, "append_images": [photo(seed=1)]}])
def test_metadata_that_are_cut_off_a_webp_do_not_matter(options):
    metadata = {"exif": b"Exif\0\0MM\0*\0\0\0\x08" + bytes(99), "xmp": b"<x/>" * 50, "icc_profile": b"x" * 200}
    data = encode(photo(), "WEBP", **metadata, **options)
    whole = pixels_of(data)
    for cut in (1, 20, 203, 204, 212, 300):
        np.testing.assert_array_equal(pixels_of(data[:-cut]), whole)
    with pytest.raises(UnreadableImageError, match=r"^damaged WebP"):
        decode(data[: data.index(b"EXIF") - 2])


def test_a_gif_without_its_end_mark_is_whole():
    data = encode(photo(), "GIF")
    np.testing.assert_array_equal(pixels_of(data[:-1]), pixels_of(data))
    with pytest.raises(UnreadableImageError, match="truncated GIF"):
        decode(data[:-3])
