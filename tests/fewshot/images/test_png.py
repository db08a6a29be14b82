"""PNG: every bit depth and transparent colour, and pixels that do not depend on what else the file holds."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from fewshot.errors import UnreadableImageError
from fewshot.images import decode
from tests.strange_files import encode, oriented, photo
from tests.strange_files import png_chunk as chunk

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}


def write_png(pixels: np.ndarray, depth: int, colours: int, *chunks: bytes) -> bytes:
    """A PNG of [H, W, N] values as stored, with chunks before its pixels."""
    height, width, _ = pixels.shape
    bits = pixels.astype(np.int64)[..., None] >> np.arange(depth - 1, -1, -1) & 1
    rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(body)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(decode(data)).astype(int)


DEPTHS = [(GREY, 1), (GREY, 2), (GREY, 4), (GREY, 8), (GREY, 16), (RGB, 8), (RGB, 16)]
ALPHA_DEPTHS = [(GREY_ALPHA, 8), (GREY_ALPHA, 16), (RGB_ALPHA, 8), (RGB_ALPHA, 16)]


@pytest.mark.parametrize(("colours", "depth"), [*DEPTHS, *ALPHA_DEPTHS])
def test_every_depth_is_scaled(colours, depth):
    top = (1 << depth) - 1
    stored = np.random.default_rng(0).integers(0, top + 1, (9, 11, SAMPLES[colours]))
    light = stored / top
    if colours in (GREY_ALPHA, RGB_ALPHA):
        light = light[..., :-1] * light[..., -1:] + 1 - light[..., -1:]
    np.testing.assert_allclose(pixels_of(write_png(stored, depth, colours)), light * np.full(3, 255), atol=1.5)


@pytest.mark.parametrize(("colours", "depth"), DEPTHS[:-1])
def test_the_transparent_colour_is_white_and_no_other(colours, depth):
    top = (1 << depth) - 1
    stored = np.random.default_rng(1).integers(0, top + 1, (9, 11, SAMPLES[colours]))
    key = stored[4, 5]
    body = b"".join(struct.pack(">H", int(value) | 0xFFFF & ~top) for value in key)  # High bits: unused.
    expected = np.where((stored == key).all(-1, keepdims=True), 255, stored * 255 / top)
    found = pixels_of(write_png(stored, depth, colours, chunk(b"tRNS", body)))
    np.testing.assert_allclose(found, expected * np.ones(3), atol=1)


def test_a_transparent_colour_of_16_bits_is_refused_by_name():
    data = write_png(np.zeros((3, 3, 3)), 16, RGB, chunk(b"tRNS", bytes(6)))
    with pytest.raises(UnreadableImageError, match=r"^a 16-bit PNG with a transparent colour is not read; convert it"):
        decode(data)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes_are_applied_with_their_transparency(depth):
    indices = np.random.default_rng(2).integers(0, 1 << depth, (9, 11, 1))
    palette = np.random.default_rng(3).integers(0, 256, (1 << depth, 3))
    alpha = np.random.default_rng(4).integers(0, 256, 1 << depth)
    plte, trns = (bytes(int(value) for value in values.reshape(-1)) for values in (palette, alpha))
    shown = palette[indices[..., 0]]
    np.testing.assert_array_equal(pixels_of(write_png(indices, depth, PALETTE, chunk(b"PLTE", plte))), shown)
    share = alpha[indices[..., 0], None] / 255
    found = pixels_of(write_png(indices, depth, PALETTE, chunk(b"PLTE", plte), chunk(b"tRNS", trns)))
    np.testing.assert_allclose(found, shown * share + 255 * (1 - share), atol=1)


def test_indices_without_a_palette_are_damage():
    with pytest.raises(UnreadableImageError, match="damaged PNG: the palette is missing"):
        decode(write_png(np.zeros((3, 3, 1)), 8, PALETTE))


PLAIN = encode(photo(), "PNG")
HEADER, REST = PLAIN[:33], PLAIN[33:]
BESIDE = {
    "a large profile": chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(1_300_000))),
    "a large text": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"{}" * 700_000)),
    "a profile that is none": chunk(b"iCCP", b"profile\0\x07" + b"x" * 40),
    "a text with a wrong checksum": chunk(b"tEXt", b"Title\0a picture", checksum=1),
    "a profile with a wrong checksum": chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"x"), checksum=1),
    "EXIF that is none": chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
    "EXIF with a wrong checksum": chunk(b"eXIf", b"II*\0" + bytes(20), checksum=1),
    "gamma that is cut off": chunk(b"gAMA", b"\0"),
    "a text named like a setting of the decoder": chunk(b"tEXt", b"transparency\x000"),
    "a text that names a part": chunk(b"tEXt", b"bbox\0all"),
    "EXIF as a text": chunk(b"tEXt", b"exif\0II*\0"),
    "XMP that is none": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta"),
    "transparency of a kind that cannot be": chunk(b"gIFx", b"tRNS"),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_stands_beside_the_pixels_does_not_matter(name):
    np.testing.assert_array_equal(pixels_of(HEADER + BESIDE[name] + REST), pixels_of(PLAIN))
    np.testing.assert_array_equal(pixels_of(PLAIN[:-12] + BESIDE[name] + PLAIN[-12:]), pixels_of(PLAIN))


def test_a_file_that_ends_behind_its_pixels_is_whole():
    behind = PLAIN[:-12] + chunk(b"tEXt", b"Title\0" + b"a picture" * 9)
    for end in range(len(PLAIN) - 12, len(behind)):
        np.testing.assert_array_equal(pixels_of(behind[:end]), pixels_of(PLAIN))
    with pytest.raises(UnreadableImageError, match="truncated PNG"):
        decode(PLAIN[:-13])


@pytest.mark.parametrize("orientation", [3, 6])
def test_orientation_is_applied_wherever_it_stands(orientation):
    data = oriented(photo(), orientation, "PNG")
    expected = pixels_of(data)
    assert expected.shape == ((64, 96, 3) if orientation == 3 else (96, 64, 3))
    start = data.index(b"eXIf") - 4
    end = start + 12 + struct.unpack_from(">I", data, start)[0]
    behind = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    np.testing.assert_array_equal(pixels_of(behind), expected)
    xmp = f"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='{orientation}'/>".replace("'", '"').encode()
    np.testing.assert_array_equal(pixels_of(HEADER + chunk(b"iTXt", xmp) + REST), expected)


def test_animations_are_their_still_image():
    blue = Image.new("RGB", (96, 64), "blue")
    moving = encode(photo(), "PNG", save_all=True, append_images=[blue])
    hidden = encode(photo(), "PNG", save_all=True, default_image=True, append_images=[blue])
    for data in (moving, hidden):
        assert b"acTL" in data
        np.testing.assert_array_equal(pixels_of(data), pixels_of(PLAIN))


def test_apples_form_is_named():
    data = PLAIN[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + PLAIN[8:]
    with pytest.raises(UnreadableImageError, match=r"^PNG in Apple's form for apps \(CgBI\) is not read; convert it"):
        decode(data)


@pytest.mark.parametrize(("mode", "options"), [("RGB", {"transparency": (200, 40, 30)}), ("P", {}), ("L", {})])
def test_a_flipped_bit_is_found_or_changes_nothing(mode, options):
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "a picture")
    data = encode(photo(8, 4).convert(mode), "PNG", pnginfo=info, dpi=(72, 72), **({"transparency": 3} | options))
    expected, refused = pixels_of(data), 0
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            np.testing.assert_array_equal(pixels_of(bytes(flipped)), expected, err_msg=str(bit))
        except UnreadableImageError:
            refused += 1
    assert refused > len(data)


def test_a_transparent_colour_behind_the_pixels_counts_for_nothing():
    stored = np.full((4, 4, 1), 7)
    data = write_png(stored, 8, GREY)
    late = data[:-12] + chunk(b"tRNS", b"\0\7") + data[-12:]
    np.testing.assert_array_equal(pixels_of(late), pixels_of(data))


def test_a_transparent_colour_with_a_damaged_name_is_damage():
    data = write_png(np.full((4, 4, 1), 7), 8, GREY, chunk(b"tRNS", b"\0\7"))
    with pytest.raises(UnreadableImageError, match="wrong checksum of tRNS"):
        decode(data.replace(b"tRNS", b"tRNs"))
