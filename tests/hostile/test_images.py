"""Images of a few bytes that would take gigabytes or minutes are refused on their header; oddities are read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fewshot.errors import UnreadableImageError
from fewshot.images import decode, limits
from tests.strange_files import encode, oriented, photo, png_of_size
from tests.strange_files import png_chunk as chunk
from tests.tiff_writer import Variant, write_tiff

HUGE = 30_000
"""Pixels of a side: 0.9 billion in all, which would be 2.7 GB."""
BOMB = zlib.compress(bytes(64 << 20), 9)


def png_with(*chunks: bytes) -> bytes:
    """A PNG with more chunks behind its header."""
    data = encode(photo(), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def tiff(width: int, height: int, *, strips: int = 1, compression: int = 1, samples: int = 1, bits: int = 8) -> bytes:
    """A TIFF that is all header, whose next page is itself."""
    fields = {
        256: width,
        257: height,
        258: bits,
        259: compression,
        262: 1,
        273: 8,
        277: samples,
        278: height,
        279: 2**31,
    }
    entries = [struct.pack("<HHII", tag, 4, strips if tag == 273 else 1, value) for tag, value in fields.items()]
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + struct.pack("<I", 8) + bytes(500)


def bmp(width: int, height: int, *, compression: int = 0) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + header + bytes(100)


def gif(screen: int, frame: int) -> bytes:
    sizes = (
        struct.pack("<HH", screen, screen) + b"\x80\0\0" + bytes(6) + b"," + struct.pack("<HHHH", 0, 0, frame, frame)
    )
    return b"GIF89a" + sizes + b"\0\x02\x01\0\0;"


def webp(width: int, height: int) -> bytes:
    """An animated WebP with a canvas of any size."""
    data = bytearray(encode(photo(16, 16), "WEBP", save_all=True, append_images=[photo(16, 16, seed=1)]))
    start = data.index(b"VP8X") + 12
    data[start : start + 6] = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return bytes(data)


def avif(side: int) -> bytes:
    data = encode(photo(), "AVIF")
    start = data.index(b"ispe") + 8
    return data[:start] + struct.pack(">II", side, side) + data[start + 8 :]


def heic(side: int) -> bytes:
    data = encode(photo(), "HEIF")
    start = data.index(b"ispe") + 8
    return data[:start] + struct.pack(">II", side, side) + data[start + 8 :]


def overlapping_tiff(strips: int) -> bytes:
    """A TIFF of one row a strip, each of which is the same whole file."""
    image = encode(photo(8, 1), "JPEG")
    repeated = {278: [1], 273: [16] * strips, 279: [1 << 20] * strips}
    variant = Variant(photometric=1, more={256: [8], 257: [strips], 259: [7], **repeated})
    return write_tiff(np.frombuffer(bytes(8) + image, np.uint8)[None, :, None], variant).ljust(1 << 19, b"\0")


def bombs() -> Iterator[tuple[str, bytes, str]]:
    """Name, file, and what its reason must hold."""
    yield "png", png_of_size(HUGE, HUGE), "too large"
    yield "png of no height", png_of_size(10, 0), "damaged PNG|no area"
    yield "gif", gif(65_535, 65_535), "too large"
    yield "gif frame beyond its screen", gif(10, 65_535), "damaged GIF"
    yield "bmp", bmp(HUGE, HUGE), "too large"
    yield "bmp upside down", bmp(2**31 - 1, -(2**31)), "too large|damaged BMP"
    yield "bmp of negative width", bmp(-5, 5), "too large|damaged BMP"
    yield "packed bmp", bmp(13_000, 13_000, compression=1), "(truncated|damaged) BMP"
    yield "webp", webp(2**14 - 1, 2**14 - 1), "damaged WebP|too large"
    yield "avif", avif(60_000), "damaged AVIF|too large"
    yield "tiff", tiff(HUGE, HUGE), "too large"
    yield "tiff that has nothing", tiff(5000, 5000), "(truncated|damaged) TIFF"
    yield "tiff of a billion strips", tiff(5000, 5000, strips=2**30), "(truncated|damaged) TIFF"
    yield "packed tiff", tiff(5000, 5000, compression=8), "(truncated|damaged) TIFF"
    yield "tiff of 16 bits that has nothing", tiff(5000, 5000, bits=16), "truncated TIFF"
    yield "packed tiff of 16 bits", tiff(5000, 5000, bits=16, compression=8), "(truncated|damaged) TIFF"
    yield "packed tiff of one huge strip", tiff(13_000, 13_000, bits=16, compression=8), "too large: a TIFF of which a"
    yield "tiff of overlapping strips", overlapping_tiff(40_000), "damaged TIFF: strips or tiles overlap"
    yield "heic", heic(60_000), "damaged HEIC|too large"
    yield "tiff of thousands of channels", tiff(5000, 5000, samples=65_535), "^TIFF with 65535 bands.* is not read"


def png_ballast() -> Iterator[tuple[str, bytes]]:
    """PNGs whose profiles and texts would take up to 64 MB, and do not matter."""
    yield "profile", png_with(chunk(b"iCCP", b"x\0\0" + BOMB))
    yield "text", png_with(chunk(b"zTXt", b"x\0\0" + BOMB))
    yield "international text", png_with(chunk(b"iTXt", b"x\0\1\0\0\0" + BOMB))
    yield "texts", png_with(chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(1_000_000))) * 80)
    yield "EXIF in a text", png_with(chunk(b"zTXt", b"Raw profile type exif\0\0" + BOMB))
    yield "XMP", png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB))


BALLAST = dict(png_ballast())
BOMBS = {name: (data, reason) for name, data, reason in bombs()}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_a_reason(name):
    data, reason = BOMBS[name]
    assert len(data) < 1 << 20
    with pytest.raises(UnreadableImageError, match=reason):
        decode(data)


@pytest.mark.parametrize("name", BALLAST)
@pytest.mark.skipif("not __import__('sys').platform.startswith('linux')", reason="memory is read from /proc")
def test_what_is_packed_beside_the_pixels_is_not_unpacked(name):
    before = _peak_bytes()
    np.testing.assert_array_equal(np.asarray(decode(BALLAST[name])), np.asarray(photo()))
    assert _peak_bytes() - before < 32 << 20


@pytest.mark.parametrize("name", ["png", "gif", "bmp", "tiff", "webp", "avif", "heic", "tiff of overlapping strips"])
@pytest.mark.skipif("not __import__('sys').platform.startswith('linux')", reason="memory is read from /proc")
def test_the_size_is_looked_at_before_memory_is_taken(name):
    before = _peak_bytes()
    with pytest.raises(UnreadableImageError):
        decode(BOMBS[name][0])
    assert _peak_bytes() - before < 300 << 20


def _peak_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def test_scans_are_counted_by_the_pixels_they_go_over(monkeypatch):
    image = encode(photo(), "JPEG", progressive=True)
    scans = image.count(b"\xff\xda")
    assert scans > 5
    monkeypatch.setattr(limits, "MAX_SCANNED_PIXELS", scans * 96 * 64)
    assert decode(image).size == (96, 64)
    monkeypatch.setattr(limits, "MAX_SCANNED_PIXELS", scans * 96 * 64 - 1)
    with pytest.raises(UnreadableImageError, match=f"a JPEG of {scans} scans over 96 x 64 pixels"):
        decode(image)
    assert decode(encode(photo(), "JPEG")).size == (96, 64)


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_very_many_frames_one_is_decoded(name):
    still = encode(photo(), name, **({"quality": 90} if name == "AVIF" else {}))
    moving = encode(photo(), name, save_all=True, append_images=[photo(seed=1)] * 60)
    difference = np.abs(np.asarray(decode(moving), float) - np.asarray(decode(still), float)).mean()
    assert difference < 12


@pytest.mark.parametrize("orientation", [0, 9, 99, 65_535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    stored = oriented(photo(), 1)
    mark = (
        b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x01"
        if b"MM\0*" in stored
        else b"\x12\x01\x03\x00\x01\x00\x00\x00\x01\x00"
    )
    order = ">H" if b"MM\0*" in stored else "<H"
    assert mark in stored
    assert decode(stored.replace(mark, mark[:-2] + struct.pack(order, orientation))).size == (96, 64)


@pytest.mark.parametrize(
    "tail", [b"<script>alert(1)</script>", b"PK\x05\x06" + bytes(18), b"%PDF-1.7\n", bytes(1 << 20)]
)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "WEBP"])
def test_what_else_a_file_may_be_behind_its_image_is_left_alone(name, tail):
    np.testing.assert_array_equal(
        np.asarray(decode(encode(photo(), name) + tail)), np.asarray(decode(encode(photo(), name)))
    )


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "F", "LA", "PA", "1", "RGBa", "YCbCr", "LAB"])
def test_every_kind_of_pixel_is_rgb_or_a_reason(mode):
    image = Image.fromarray(np.asarray(photo().convert("L"), np.uint16) * 257) if mode == "I;16" else _converted(mode)
    try:
        assert decode(encode(image, "TIFF")).mode == "RGB"
    except (UnreadableImageError, OSError, KeyError):  # Pillow cannot write some of them
        assert mode in ("PA", "RGBa")


def _converted(mode: str) -> Image.Image:
    if mode == "LAB":
        return Image.merge("LAB", photo().split())
    return photo().convert("RGBA").convert(mode) if mode in ("PA", "RGBa", "LA") else photo().convert(mode)


@given(
    width=st.integers(0, 2**31 - 1), height=st.integers(0, 2**31 - 1),
    make=st.sampled_from([png_of_size, bmp, tiff, lambda w, h: webp(1 + w % 2**24, 1 + h % 2**24)]),
)  # fmt: skip
def test_any_size_that_a_header_claims_is_an_image_or_a_reason(width, height, make):
    try:
        image = decode(make(width, height), max_pixels=1_000_000)
    except UnreadableImageError as error:
        reason = str(error)
        assert len(reason) < 200
    else:
        assert image.mode == "RGB"
