"""Every format decodes to upright RGB, and damaged or hostile files are refused with a reason."""

from __future__ import annotations

import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fewshot.errors import UnreadableImageError
from fewshot.images import decode, decode_pixels
from fewshot.images.rgb_conversion import to_bytes
from fewshot.images.warning_filter import ModuleWarningFilter
from tests.strange_files import HEIGHT, WIDTH, encode, oriented, photo, png_of_size, write_strange_files

FORMATS = {
    "JPEG": {},
    "progressive JPEG": {"progressive": True},
    "PNG": {},
    "GIF": {},
    "WebP": {},
    "lossless WebP": {"lossless": True},
    "BMP": {},
    "TIFF": {},
    "LZW TIFF": {"compression": "tiff_lzw"},
    "AVIF": {},
    "HEIF": {},
    "JXL": {},
}


@cache
def a_file(name: str) -> bytes:
    return encode(photo(), name.split()[-1], **FORMATS[name])


@cache
def its_pixels(name: str) -> np.ndarray:
    return np.asarray(decode(a_file(name)))


def distance(image: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference of two images of one size, in grey values."""
    return float(np.abs(np.asarray(image, np.float64) - np.asarray(other, np.float64)).mean())


def test_every_strange_file_is_read_or_refused_with_its_reason(tmp_path):
    expected = write_strange_files(tmp_path)
    assert len(expected) >= 80
    for name, reason in expected.items():
        data = (tmp_path / name).read_bytes()
        if reason is None:
            image = decode(data)
            assert image.mode == "RGB", name
            assert np.asarray(image).std() > 10 or image.size == (1, 1), f"{name} has nothing in it"
        else:
            with pytest.raises(UnreadableImageError, match=reason) as caught:
                decode(data)
            assert len(str(caught.value)) < 140, name
            assert not re.search(r"[<\n]|0x[0-9a-f]{6}|/tmp", str(caught.value)), name


@given(name=st.sampled_from(sorted(FORMATS)), share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused_or_complete(name, share):
    try:
        pixels = np.asarray(decode(a_file(name)[: int(share * len(a_file(name)))]))
    except UnreadableImageError:
        return
    np.testing.assert_array_equal(pixels, its_pixels(name))


@given(
    name=st.sampled_from(["JPEG", "PNG", "GIF", "WebP", "BMP", "AVIF", "TIFF", "LZW TIFF", "HEIF", "JXL"]),
    data=st.data(),
)
def test_damage_raises_no_other_exception(name, data):
    damaged = bytearray(a_file(name))
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=8)):
        damaged[position] = data.draw(st.integers(0, 255))
    with suppress(UnreadableImageError):
        assert decode(bytes(damaged), max_pixels=10_000_000).mode == "RGB"


@given(
    data=st.binary(max_size=200), magic=st.sampled_from([b"", b"\xff\xd8\xff", b"GIF89a", b"BM", b"\x89PNG\r\n\x1a\n"])
)
def test_random_bytes_are_refused(data, magic):
    with pytest.raises(UnreadableImageError):
        decode(magic + data, max_pixels=1_000_000)


def test_checksums_of_png_are_verified():
    data = a_file("PNG")
    middle = len(data) // 2
    with pytest.raises(UnreadableImageError, match="checksum"):
        decode(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


def test_a_jpeg_has_the_pixels_of_pillow():
    for name in ("JPEG", "progressive JPEG"):
        with Image.open(BytesIO(a_file(name))) as image:
            np.testing.assert_array_equal(its_pixels(name), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(name, orientation):
    stored = oriented(photo(), orientation, name)
    expected = ImageOps.exif_transpose(_with_orientation(photo(), orientation))
    image = decode(stored)
    assert image.size == expected.size
    assert distance(image, expected) < 8


def _with_orientation(image: Image.Image, orientation: int) -> Image.Image:
    image.getexif()[0x0112] = orientation
    return image


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "LA", "RGBA", "1"])
def test_every_mode_converts_to_the_same_picture(mode):
    name = "TIFF" if mode == "CMYK" else "PNG"
    original = photo().convert(mode)
    assert distance(decode(encode(original, name)), original.convert("RGB")) < 1


def test_a_cmyk_jpeg_is_not_inverted():
    assert distance(decode(encode(photo().convert("CMYK"), "JPEG")), photo()) < 8


@pytest.mark.parametrize("container", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(container):
    grey = np.linspace(0, 65535, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint16)
    pixels = np.asarray(decode(encode(Image.fromarray(grey), container)))
    np.testing.assert_allclose(pixels[..., 0], grey / 257, atol=0.5)


def test_transparent_pixels_become_white():
    image = Image.new("RGBA", (4, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 128))
    assert np.asarray(decode(encode(image, "PNG")))[0, :3].tolist() == [[255, 0, 0], [255] * 3, [127] * 3]


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_is_decoded(name):
    red, blue = (Image.new("RGB", (20, 20), colour) for colour in ("red", "blue"))
    pixels = np.asarray(decode(encode(red, name, save_all=True, append_images=[blue])))
    assert pixels[..., 0].min() > 240
    assert pixels[..., 2].max() < 15


@given(values=st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=9))
def test_grey_values_of_any_range_become_bytes_in_order(values):
    array = np.array([values], np.float64)
    if not np.isfinite(array).any():
        with pytest.raises(ValueError, match="finite"):
            to_bytes(array)
        return
    scaled = to_bytes(array)
    assert scaled.min() >= 0
    assert scaled.max() <= 255
    order = np.argsort(array[np.isfinite(array)], kind="stable")
    assert (np.diff(scaled[np.isfinite(array)][order]) >= 0).all()


@pytest.mark.parametrize("max_pixels", [WIDTH * HEIGHT - 1, WIDTH * HEIGHT])
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_limit_of_pixels_is_exact(name, max_pixels):
    if max_pixels < WIDTH * HEIGHT:
        with pytest.raises(UnreadableImageError, match="too large: 96 x 64"):
            decode(a_file(name), max_pixels=max_pixels)
    else:
        decode(a_file(name), max_pixels=max_pixels)


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(UnreadableImageError, match="too large"):
        decode(png_of_size(20_000, 20_000))


@pytest.mark.parametrize("size", [(6000, 1), (1, 6000), (2000, 100), (100, 2000)])
def test_extreme_shapes_keep_their_middle(size):
    image = decode(encode(photo(*size), "PNG"))
    assert max(image.size) == 16 * min(image.size) == 16 * min(size)
    assert distance(image, ImageOps.fit(photo(*size), image.size, centering=(0.5, 0.5))) < 1


@given(side=st.integers(1, 70), width=st.integers(8, 120), height=st.integers(8, 120))
def test_scaled_decoding_keeps_both_sides_long_enough(side, width, height):
    full = photo(width, height)
    image = decode(encode(full, "JPEG", quality=95), min_side=side)
    assert min(image.size) >= min(side, *full.size)
    assert image.size in [(-(-width // divisor), -(-height // divisor)) for divisor in (1, 2, 4, 8)]
    assert image.size == (-(-width // 8), -(-height // 8)) or min(image.size) // 2 < side


def test_scaled_decoding_gives_the_same_picture():
    full = photo(640, 480)
    image = decode(encode(full, "JPEG", quality=95), min_side=100)
    assert image.size == (160, 120)
    assert distance(image, full.resize(image.size, Image.Resampling.BOX)) < 3


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WebP"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_pixels_are_an_array_of_their_own(name, orientation):
    data = oriented(photo(), orientation, name)
    pixels = decode_pixels(data)
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, np.asarray(decode(data)))


def test_no_warning_escapes_from_many_threads(tmp_path):
    files = [tmp_path / name for name in write_strange_files(tmp_path)]

    def outcome(path):
        try:
            return decode(path.read_bytes()).tobytes()
        except UnreadableImageError as error:
            return str(error)

    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(outcome, files))
    assert warnings.filters == before
    assert at_once == [outcome(path) for path in files]


def test_the_filter_ends_with_the_last_context_and_covers_one_library():
    ignored = ModuleWarningFilter(r"a_library\.")

    def warn(module):
        warnings.warn_explicit("odd", UserWarning, "file", 1, module=module)

    with ignored():
        with ignored():
            warn("a_library.part")
        warn("a_library.part")
        with pytest.warns(UserWarning, match="odd"):
            warn("another")
    with pytest.warns(UserWarning, match="odd"):
        warn("a_library.part")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("suffix", ["PNG", "TIFF"])
def test_an_image_that_is_transparent_all_over_is_refused(suffix, mode):
    image = Image.new(mode, (8, 8))
    with pytest.raises(UnreadableImageError, match="transparent all over, so nothing is visible; remove its alpha"):
        decode(encode(image, suffix))
    image.putpixel((0, 0), (9,) * (len(mode) - 1) + (1,))
    assert decode(encode(image, suffix)).getpixel((7, 7)) == (255, 255, 255)


@pytest.mark.parametrize("suffix", ["PNG", "TIFF"])
def test_12_bit_samples_in_16_bits_are_refused_and_black_is_not(suffix):
    values = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    with pytest.raises(UnreadableImageError, match="uses only the lowest 12 bits"):
        decode(encode(Image.fromarray(values), suffix))
    for other in (values * 0, values * 16):
        assert np.asarray(decode(encode(Image.fromarray(other), suffix))).max() == round(other.max() / 257)
