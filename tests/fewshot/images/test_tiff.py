"""TIFF: every arrangement of samples gives the same picture, within rounding, or is refused by its name."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps

from fewshot.errors import UnreadableImageError
from fewshot.images import decode
from fewshot.images.tiff.directories import read_directories
from tests import tiff_writer as tiff
from tests.strange_files import encode, oriented, photo
from tests.tiff_writer import Variant, write_tiff

COLOURS = np.asarray(photo(21, 19))
GREYS = np.asarray(photo(21, 19).convert("L"))[..., None]
STRIPS, TILES = {"rows": 7}, {"tile": (16, 16)}
PACKBITS, LZW, DEFLATE = ({"compression": method} for method in (tiff.PACKBITS, tiff.LZW, tiff.DEFLATE))
DIFFERENCES = {"predictor": 2}
ARRANGEMENTS = (
    {},
    STRIPS,
    TILES,
    PACKBITS,
    STRIPS | LZW,
    TILES | LZW | DIFFERENCES,
    DEFLATE,
    STRIPS | DEFLATE | DIFFERENCES,
    TILES | DEFLATE,
)
UNPREDICTED = [arrangement for arrangement in ARRANGEMENTS if "predictor" not in arrangement]
KINDS = {
    "grey": (GREYS, {"photometric": tiff.BLACK_IS_ZERO}),
    "white is zero": (255 - GREYS, {"photometric": tiff.WHITE_IS_ZERO}),
    "grey, alpha": (np.dstack([GREYS, GREYS * 0 + 255]), {"photometric": tiff.BLACK_IS_ZERO, "extras": [2]}),
    "grey, premultiplied": (np.dstack([GREYS, GREYS * 0 + 255]), {"photometric": tiff.BLACK_IS_ZERO, "extras": [1]}),
    "grey, ignored": (np.dstack([GREYS, 255 - GREYS]), {"photometric": tiff.BLACK_IS_ZERO, "extras": [0]}),
    "rgb": (COLOURS, {}),
    "rgb, alpha": (np.dstack([COLOURS, GREYS * 0 + 255]), {"extras": [2]}),
    "rgb, ignored": (np.dstack([COLOURS, GREYS]), {"extras": [0]}),
    "cmyk": (np.dstack([255 - COLOURS, GREYS * 0]), {"photometric": tiff.CMYK}),
}


def at_depth(pixels: np.ndarray, bits: int) -> np.ndarray:
    return pixels.astype(np.uint64) * ((1 << bits) - 1) // 255


def grid(bits: int, **settings) -> Iterator[Variant]:
    arrangements = UNPREDICTED if bits % 8 else ARRANGEMENTS  # Differences of packed bits are not defined.
    for order, planar in itertools.product("<>", (False, True)):
        for arrangement in (*arrangements, {"big": True}):
            yield Variant(bits=bits, order=order, planar=planar, **settings, **arrangement)


def outcome(data: bytes) -> np.ndarray | str:
    try:
        return np.asarray(decode(data)).astype(int)
    except UnreadableImageError as error:
        return str(error)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_every_arrangement_is_the_same_picture(kind, bits):
    pixels, settings = KINDS[kind]
    expected = COLOURS if pixels.shape[-1] > 2 else np.dstack([GREYS] * 3)
    for variant in grid(bits, **settings):
        if variant.planar and pixels.shape[-1] == 1:
            continue
        found = outcome(write_tiff(at_depth(pixels, bits), variant))
        assert not isinstance(found, str), f"{variant}: {found}"
        assert np.abs(found - expected).max() <= 1, variant


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", [tiff.WHITE_IS_ZERO, tiff.BLACK_IS_ZERO])
def test_few_bits_are_scaled(bits, photometric):
    top = (1 << bits) - 1
    levels = GREYS >> (8 - bits)
    stored = top - levels if photometric == tiff.WHITE_IS_ZERO else levels
    for order, arrangement in itertools.product("<>", UNPREDICTED):
        variant = Variant(bits=bits, order=order, photometric=photometric, **arrangement)
        np.testing.assert_allclose(
            outcome(write_tiff(stored, variant))[..., :1], levels.astype(int) * 255 / top, atol=0.5
        )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_are_applied(bits):
    indices = GREYS >> (8 - bits)
    palette = np.random.default_rng(0).integers(0, 256, (3, 1 << bits))
    expected = palette.T[indices[..., 0]]
    for order, arrangement in itertools.product("<>", UNPREDICTED):
        variant = Variant(bits=bits, order=order, photometric=tiff.PALETTE, **arrangement)
        stored = write_tiff(indices, replace(variant, more={320: list((palette * 257).reshape(-1))}))
        np.testing.assert_array_equal(outcome(stored), expected)


@pytest.mark.parametrize(
    ("sample_format", "bits"),
    [
        *((tiff.SIGNED, bits) for bits in (8, 16, 32)),
        (tiff.UNSIGNED, 32),
        *((tiff.FLOAT, bits) for bits in (16, 32, 64)),
    ],
)
def test_numbers_of_any_kind_are_grey_values_in_a_known_range(sample_format, bits):
    greys = GREYS // 2 if (sample_format, bits) == (tiff.SIGNED, 8) else GREYS
    for photometric in (tiff.BLACK_IS_ZERO, tiff.WHITE_IS_ZERO):
        shown = 255 - greys.astype(int) if photometric == tiff.WHITE_IS_ZERO else greys.astype(int)
        for variant in grid(bits, photometric=photometric, sample_format=sample_format):
            if not variant.planar:
                np.testing.assert_array_equal(outcome(write_tiff(greys, variant))[..., :1], shown, err_msg=str(variant))


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("order", "<>")
def test_differences_of_floating_point_numbers_are_undone(bits, order):
    for blocks, compression in itertools.product(({}, STRIPS, TILES), (tiff.LZW, tiff.DEFLATE)):
        variant = Variant(
            bits, tiff.BLACK_IS_ZERO, order, compression=compression, predictor=3, sample_format=3, **blocks
        )
        np.testing.assert_allclose(outcome(write_tiff(GREYS / 255, variant))[..., :1], GREYS, atol=0.6)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", [1, 2])
def test_transparent_samples_go_over_white(bits, kind):
    alpha = np.linspace(0, 1, 21)[None, :, None] * np.ones((19, 1, 1))
    colours = COLOURS / 255
    stored = np.dstack([colours * alpha if kind == 1 else colours, alpha]) * ((1 << bits) - 1)
    expected = 255 * (colours * alpha + 1 - alpha)
    for planar in (False, True):
        data = write_tiff(np.rint(stored).astype(np.uint64), Variant(bits, extras=[kind], planar=planar))
        np.testing.assert_allclose(outcome(data), expected, atol=2)


def test_reversed_bits_are_turned_around():
    for bits in (8, 16):
        variant = Variant(bits, tiff.BLACK_IS_ZERO, fill_order=2)
        np.testing.assert_array_equal(outcome(write_tiff(at_depth(GREYS, bits), variant))[..., :1], GREYS)


def test_a_thick_strip_is_read_in_parts(monkeypatch):
    monkeypatch.setattr("fewshot.images.tiff.stored_samples._CHUNK_BYTES", 1000)
    for planar, packing in itertools.product((False, True), ({}, {"rows": 9}, DEFLATE | DIFFERENCES, TILES | LZW)):
        variant = Variant(16, planar=planar, **packing)
        np.testing.assert_array_equal(outcome(write_tiff(at_depth(COLOURS, 16), variant)), COLOURS)


REFUSED = {
    "floating-point colours": (COLOURS / 255, Variant(32, sample_format=tiff.FLOAT), "floating-point"),
    "signed colours": (COLOURS, Variant(16, sample_format=tiff.SIGNED), "signed or floating-point"),
    "five bands": (np.dstack([COLOURS, COLOURS])[..., :5], Variant(), "5 bands"),
    "thirteen bands": (np.dstack([GREYS] * 13), Variant(photometric=tiff.BLACK_IS_ZERO, extras=[0] * 12), "13 bands"),
    "three bands of grey": (np.dstack([GREYS] * 3), Variant(photometric=tiff.BLACK_IS_ZERO, extras=[0, 0]), "3 bands"),
    "9 bits": (at_depth(GREYS, 9), Variant(9, tiff.BLACK_IS_ZERO), "9-bit"),
    "11 bits": (at_depth(GREYS, 11), Variant(11, tiff.BLACK_IS_ZERO), "11-bit"),
    "differences of packed bits": (
        at_depth(GREYS, 12),
        Variant(12, tiff.BLACK_IS_ZERO, **DEFLATE, predictor=2),
        "pred",
    ),
    "predictor 4": (at_depth(GREYS, 16), Variant(16, tiff.BLACK_IS_ZERO, **DEFLATE, predictor=4), "unknown predictor"),
    "palette of 16 bits": (GREYS, Variant(16, tiff.PALETTE, more={320: [0] * 9}), "16-bit palette"),
    "complex numbers": (GREYS, Variant(32, tiff.BLACK_IS_ZERO, more={339: [6]}), "complex"),
    "samples of different sizes": (COLOURS, Variant(more={258: [5, 6, 5]}), "different sizes"),
    "samples of different kinds": (COLOURS, Variant(more={339: [1, 1, 3]}), "different kinds"),
    "CFA": (GREYS, Variant(photometric=9), "colours of kind 9"),
    "JPEG 2000": (COLOURS, Variant(more={259: [33003]}), "JPEG 2000 compression"),
    "unknown compression": (COLOURS, Variant(more={259: [12345]}), r"an unknown \(12345\) compression"),
    "subsampled YCbCr": (COLOURS, Variant(photometric=tiff.YCBCR, more={530: [2, 2]}), "subsampled YCbCr"),
    "undeclared subsampling": (COLOURS, Variant(photometric=tiff.YCBCR), "subsampled YCbCr"),
    "a block that is not stored": (COLOURS, Variant(rows=8, more={273: [8, 0, 8]}), "empty blocks"),
    "a block of no bytes": (COLOURS, Variant(rows=8, more={279: [1, 0, 1]}), "empty blocks"),
    "planes of CIELAB": (COLOURS, Variant(photometric=8, planar=True), "cielab samples in planes"),
    "odd BigTIFF": (GREYS, Variant(4, tiff.BLACK_IS_ZERO, ">", big=True, more={262: [3]}), "big-endian BigTIFF"),
    "alpha beside ink": (np.dstack([COLOURS, GREYS, GREYS]), Variant(16, tiff.CMYK, extras=[2]), "CMYK and transp"),
    "4-bit colours": (COLOURS >> 4, Variant(4), "samples of a kind"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_by_name_and_with_the_way_out(name):
    pixels, variant, reason = REFUSED[name]
    with pytest.raises(UnreadableImageError, match=f"^TIFF with .*{reason}.* is not read; convert it to") as caught:
        decode(write_tiff(pixels, variant))
    assert len(str(caught.value)) < 140


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_samples_of_undefined_kind_are_unsigned_numbers(bits):
    data = write_tiff(at_depth(COLOURS, bits), Variant(bits, more={339: [4, 4, 4]}))
    np.testing.assert_allclose(outcome(data), COLOURS, atol=1)


def test_more_strips_than_a_page_can_have_are_refused_before_they_are_read(monkeypatch):
    monkeypatch.setattr("fewshot.images.tiff.page_layout._MAX_SEGMENTS", 3)
    assert not isinstance(outcome(write_tiff(GREYS, Variant(photometric=tiff.BLACK_IS_ZERO, rows=7))), str)
    refusal = outcome(write_tiff(GREYS, Variant(photometric=tiff.BLACK_IS_ZERO, rows=6)))
    assert refusal == "refused: a TIFF of 4 strips or tiles"


def test_colours_that_are_not_named_are_refused():
    data = write_tiff(GREYS, Variant(photometric=tiff.BLACK_IS_ZERO))
    mark = struct.pack("<HH", 262, 4)
    assert data.count(mark) == 1
    with pytest.raises(UnreadableImageError, match="PhotometricInterpretation is missing"):
        decode(data.replace(mark, struct.pack("<HH", 60000, 4)))


@pytest.mark.parametrize("present", [1, 2])
@pytest.mark.parametrize("variant", [Variant(rows=8), Variant(16, rows=8), Variant(16, tile=(16, 16), planar=True)])
def test_missing_strips_are_no_black_pixels(variant, present):
    more = {324 if variant.tile else 273: [8] * present}
    data = write_tiff(at_depth(COLOURS, variant.bits), replace(variant, more=more))
    with pytest.raises(UnreadableImageError, match="truncated TIFF"):
        decode(data)


@pytest.mark.parametrize("packing", [{}, PACKBITS, LZW, DEFLATE | DIFFERENCES])
@pytest.mark.parametrize("planar", [False, True])
def test_samples_that_are_cut_off_are_refused(planar, packing):
    whole = write_tiff(at_depth(COLOURS, 16), Variant(16, planar=planar, **packing))
    first = struct.unpack_from("<I", whole, 4)[0]
    pixels, directory = whole[8:first], whole[first:]
    data = b"II*\0" + struct.pack("<I", 8 + 200) + pixels[:200] + _moved(directory, 200 - len(pixels))
    with pytest.raises(UnreadableImageError, match=r"^(truncated|damaged) TIFF"):
        decode(data[: 8 + 200 + len(directory)])


def _moved(directory: bytes, by: int) -> bytes:
    """A directory elsewhere: values that do not fit into its entries move with it."""
    moved = bytearray(directory)
    for start in range(2, 2 + 12 * struct.unpack_from("<H", directory)[0], 12):
        _, kind, count, offset = struct.unpack_from("<HHII", directory, start)
        if count > 1:
            struct.pack_into(
                "<HHII", moved, start, *struct.unpack_from("<H", directory, start), kind, count, offset + by
            )
    return bytes(moved)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_samples_are_turned_upright_like_pixels(orientation):
    expected = ImageOps.exif_transpose(_with_orientation(Image.fromarray(COLOURS), orientation))
    for bits, planar in ((8, False), (8, True), (16, False), (16, True)):
        data = write_tiff(at_depth(COLOURS, bits), Variant(bits, planar=planar, more={274: [orientation]}))
        np.testing.assert_array_equal(outcome(data), np.asarray(expected))


def _with_orientation(image: Image.Image, orientation: int) -> Image.Image:
    image.getexif()[0x0112] = orientation
    return image


def pages(*images: tuple[np.ndarray, Variant], below: bool = False) -> bytes:
    """A TIFF whose first page is followed by others, or has them below itself."""
    data = bytearray(write_tiff(*images[0]))
    last = struct.unpack_from("<I", data, 4)[0]
    for pixels, variant in images[1:]:
        page, start = write_tiff(pixels, variant), len(data)
        first = struct.unpack_from("<I", page, 4)[0]
        directory = _elsewhere(page[first:], start)
        if below:
            place = data.index(struct.pack("<HHI", 330, 4, 1)) + 8
        else:
            place = last + 2 + 12 * struct.unpack_from("<H", data, last)[0]
        last = start + first
        struct.pack_into("<I", data, place, last)
        data += page[:first] + directory
    return bytes(data)


def _elsewhere(directory: bytes, by: int) -> bytes:
    moved = bytearray(_moved(directory, by))
    for start in range(2, 2 + 12 * struct.unpack_from("<H", directory)[0], 12):
        number, _, count, offset = struct.unpack_from("<HHII", directory, start)
        if number == 273 and count == 1:
            struct.pack_into("<I", moved, start + 8, offset + by)
    return bytes(moved)


SMALL = COLOURS[::4, ::4]
REDUCED = {254: [1]}


def test_a_reduced_first_page_is_not_the_image():
    for below in (False, True):
        small = Variant(more=REDUCED | ({330: [0]} if below else {}))
        for bits in (8, 16):
            data = pages((SMALL, small), (at_depth(COLOURS, bits), Variant(bits)), below=below)
            np.testing.assert_array_equal(outcome(data), COLOURS)


def test_the_first_of_equal_pages_is_the_image():
    np.testing.assert_array_equal(outcome(pages((COLOURS, Variant()), (SMALL, Variant(more=REDUCED)))), COLOURS)
    np.testing.assert_array_equal(outcome(pages((SMALL, Variant(more=REDUCED)))), SMALL)


def ascii_tag(text: bytes) -> dict[int, list[int]]:
    """The maker of a camera; the writer stores numbers, of which each is one byte here."""
    return {271: list(text)}


RAW = {
    "NEF": ({330: [0]} | ascii_tag(b"NIKON CORPORATION\0"), {262: [32803]}),
    "ARW": ({330: [0]} | ascii_tag(b"SONY\0"), {259: [32767]}),
    "DNG": ({330: [0], 50706: [1, 4, 0, 0]}, {262: [34892]}),
    "PEF": (ascii_tag(b"PENTAX Corporation\0") | {262: [32803]}, None),
    "": ({330: [0]}, {262: [32803]}),
}


@pytest.mark.parametrize("name", RAW)
def test_camera_raw_is_not_its_preview(name):
    first, sensor = RAW[name]
    preview = (SMALL, Variant(more=REDUCED | first))
    data = pages(preview) if sensor is None else pages(preview, (GREYS, Variant(more=sensor)), below=True)
    shown = rf"camera RAW \({name}\)" if name else "camera RAW"
    with pytest.raises(UnreadableImageError, match=f"^{shown} is not read; develop it"):
        decode(data)


def test_canons_raw_has_a_mark_of_its_own():
    data = write_tiff(COLOURS, Variant())
    with pytest.raises(UnreadableImageError, match=r"camera RAW \(CR2\)"):
        decode(data[:8] + b"CR" + data[10:])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr"])
def test_jpeg_in_tiff_is_the_picture_and_its_damage_is_found(mode):
    image = photo(96, 64).convert(mode)
    data = encode(image, "TIFF", compression="jpeg", quality=95)
    assert np.abs(outcome(data) - np.asarray(image.convert("RGB")).astype(int)).mean() < 6
    start = data.index(b"\xff\xda") + 600
    hole = bytes(byte ^ 0xFF for byte in data[start : start + 60])
    with pytest.raises(UnreadableImageError, match=r"^(truncated|damaged) TIFF"):
        decode(data[:start] + hole + data[start + 60 :])


def test_the_first_kind_of_jpeg_in_tiff_is_a_whole_jpeg():
    jpeg = oriented(photo(), 6)
    variant = Variant(compression=tiff.NONE, more={259: [6], 262: [6], 513: [8], 514: [len(jpeg)], 274: [3]})
    data = write_tiff(
        np.frombuffer(jpeg, np.uint8)[None, :, None], replace(variant, more={**variant.more, 256: [96], 257: [64]})
    )
    assert data[8 : 8 + len(jpeg)] == jpeg
    np.testing.assert_array_equal(outcome(data), outcome(oriented(photo(), 3)))
    pieces = write_tiff(COLOURS, Variant(more={259: [6]}))
    assert outcome(pieces).startswith("TIFF with old JPEG (in pieces) compression is not read")


@pytest.mark.parametrize(("size", "reason"), [(1, None), (3, "damaged TIFF: strips or tiles overlap")])
def test_blocks_of_jpeg_that_claim_more_than_the_file_are_refused(size, reason):
    jpeg = encode(photo().convert("L"), "JPEG")
    width, height = photo().size
    more = {256: [width], 257: [height], 259: [7], 273: [8], 278: [height], 279: [size * len(jpeg)]}
    data = write_tiff(np.frombuffer(jpeg, np.uint8)[None, :, None], Variant(photometric=tiff.BLACK_IS_ZERO, more=more))
    assert reason == outcome(data) if reason else np.abs(outcome(data) - outcome(jpeg)).max() <= 1


@pytest.mark.parametrize("orientation", [0, 9, 70_000])
@pytest.mark.parametrize("bits", [8, 16])
def test_an_orientation_that_means_nothing_turns_nothing(bits, orientation):
    data = write_tiff(at_depth(COLOURS, bits), Variant(bits, more={274: [orientation]}))
    np.testing.assert_array_equal(outcome(data), COLOURS)


def test_full_range_luma_and_chroma_are_read_and_another_range_is_refused():
    image = photo().convert("YCbCr")
    expected = np.asarray(image.convert("RGB")).astype(int)
    np.testing.assert_allclose(outcome(encode(image, "TIFF")), expected, atol=1)
    narrow = encode(image, "TIFF", tiffinfo={532: (16, 235, 128, 240, 128, 240)})
    assert outcome(narrow).startswith("TIFF with YCbCr colours of a range of their own is not read")


def test_a_page_that_is_followed_by_itself_is_read_once():
    data = write_tiff(COLOURS, Variant())
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    end = first + 2 + 12 * count
    assert data[end : end + 4] == bytes(4)
    looped = data[:end] + data[4:8] + data[end + 4 :]
    assert len(list(read_directories(looped))) == 1
    np.testing.assert_array_equal(outcome(looped), COLOURS)


def test_a_strip_that_unpacks_to_too_much_is_refused(monkeypatch):
    data = write_tiff(at_depth(COLOURS, 16), Variant(16, **DEFLATE))
    monkeypatch.setattr("fewshot.images.tiff.stored_samples.MAX_PIXELS", 2 * COLOURS.size - 1)
    assert outcome(data) == f"too large: a TIFF of which a strip has {2 * COLOURS.size} bytes"
