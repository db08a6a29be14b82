"""HEIC and JPEG XL: limits hold, images stand upright once, and without plug-ins there is a reason."""

from __future__ import annotations

import struct
import sys
from importlib.metadata import PackageNotFoundError

import numpy as np
import pillow_jxl
import pytest
from PIL import ImageOps

from fewshot.errors import UnreadableImageError
from fewshot.image_formats import decoding_identity
from fewshot.images import decode
from fewshot.images.jxl_header import JxlHeader, read_jxl_header
from tests.strange_files import encode, oriented, photo

FORMATS = {"HEIC": ("HEIF", {"quality": -1, "chroma": 444}), "JPEG XL": ("JXL", {"lossless": True})}


def a_file(name: str, image=None) -> bytes:
    written, options = FORMATS[name]
    return encode(image or photo(), written, **options)


def pixels_of(data: bytes, **options) -> np.ndarray:
    return np.asarray(decode(data, **options)).astype(int)


def transcoded(jpeg: bytes) -> bytes:
    """The smaller form of a JPEG that JPEG XL has."""
    return pillow_jxl.Encoder(mode="RGB", lossless=True, quality=100)(jpeg, 96, 64, jpeg_encode=True)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_every_mode_is_the_same_picture(name, mode):
    image = photo().convert(mode)
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(pixels_of(a_file(name, image)) - expected).mean() < 2


@pytest.mark.parametrize("name", FORMATS)
def test_transparent_pixels_become_white(name):
    image = photo().convert("RGBA")
    image.putalpha(0)
    image.paste((0, 0, 0, 255), (0, 0, 8, 8))
    pixels = pixels_of(a_file(name, image))
    assert pixels[16:, 16:].min() == 255
    assert pixels[:4, :4].max() < 50


@pytest.mark.parametrize("name", [*FORMATS, "JPEG in JPEG XL"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(name, orientation):
    image = photo()
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    if name == "JPEG in JPEG XL":
        data = transcoded(oriented(photo(), orientation, quality=95))
    else:
        written, options = FORMATS[name]
        data = oriented(photo(), orientation, written, **options)
    found = pixels_of(data)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 8


def test_orientation_in_the_codestream_is_not_applied_again():
    data = transcoded(oriented(photo(), 6, quality=95))
    assert read_jxl_header(data) == JxlHeader(96, 64, 6, is_animated=False, extra_channels=0)
    found = pixels_of(without_box(data, b"jbrd"))  # libjxl decodes pixels where no JPEG can be restored
    assert np.abs(found - pixels_of(data)).mean() < 2


def without_box(data: bytes, name: bytes) -> bytes:
    kept, position = b"", 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 4]) or len(data) - position
        if data[position + 4 : position + 8] != name:
            kept += data[position : position + size]
        position += size
    return kept


def test_a_jpeg_in_jpeg_xl_has_the_pixels_of_the_jpeg():
    jpeg = encode(photo(), "JPEG")
    np.testing.assert_array_equal(pixels_of(transcoded(jpeg)), pixels_of(jpeg))
    np.testing.assert_array_equal(pixels_of(transcoded(jpeg), min_side=20), pixels_of(jpeg, min_side=20))


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (100, 100), (8, 264), (513, 7), (160, 90)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_size_of_a_jpeg_xl_is_read_before_it_is_decoded(size, mode):
    data = a_file("JPEG XL", photo(*size).convert(mode))
    assert read_jxl_header(data) == JxlHeader(*size, 1, is_animated=False, extra_channels=int(mode == "RGBA"))


@pytest.mark.parametrize("name", FORMATS)
def test_the_limit_of_pixels_holds_before_decoding(name, monkeypatch):
    data = a_file(name)
    assert decode(data, max_pixels=96 * 64).size == (96, 64)
    monkeypatch.setattr("pillow_heif.as_plugin.HeifImageFile.load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr("pillow_jxl.Decoder", lambda **_: pytest.fail("decoded"))
    with pytest.raises(UnreadableImageError, match=r"^too large: 96 x 64"):
        decode(data, max_pixels=96 * 64 - 1)


def bits(*numbers: tuple[int, int]) -> bytes:
    """Numbers with their bits, the lowest first."""
    value = position = 0
    for number, count in numbers:
        value |= number << position
        position += count
    return b"\xff\x0a" + value.to_bytes(64, "little")


SIZE = [(0, 1), (3, 2), (0, 30), (0, 3), (3, 2), (0, 30)]
"""1 x 1 pixels, in as many bits as the largest."""


def test_what_a_jpeg_xl_may_claim_is_refused_before_it_is_decoded():
    huge = [(0, 1), (3, 2), ((1 << 30) - 1, 30), (0, 3), (3, 2), ((1 << 30) - 1, 30)]
    with pytest.raises(UnreadableImageError, match=r"^too large: 1073741824 x 1073741824"):
        decode(bits(*huge, (1, 1)))
    fields = [(0, 1), (1, 1), (0, 3), (0, 1)]  # more fields; no size to be shown at
    with pytest.raises(UnreadableImageError, match=r"^animated JPEG XL is not read"):
        decode(bits(*SIZE, *fields, (0, 1), (1, 1)))
    with pytest.raises(UnreadableImageError, match=r"^JPEG XL with a preview is not read"):
        decode(bits(*SIZE, *fields, (1, 1)))
    depth = [(0, 1), (0, 2), (1, 1)]  # whole numbers of 8 bits
    with pytest.raises(UnreadableImageError, match=r"^JPEG XL with 4096 extra channels is not read"):
        decode(bits(*SIZE, (0, 1), (0, 1), *depth, (3, 2), (4095, 12)))


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_cut_off_or_none_is_damage(name):
    data = a_file(name)
    for broken in (data[: len(data) // 2], data[:-1], data[:60], data[:40] + bytes(200)):
        with pytest.raises(UnreadableImageError, match=f"^(damaged|truncated) {name}"):
            decode(broken)
    np.testing.assert_array_equal(pixels_of(data + b"appended" * 99), pixels_of(data))


def test_damage_in_a_jpeg_xl_is_found():
    for data in (a_file("JPEG XL"), transcoded(encode(photo(), "JPEG"))):
        for position in range(120, len(data) - 20, 97):
            hole = bytes(byte ^ 0xFF for byte in data[position : position + 20])
            with pytest.raises(UnreadableImageError, match="JPEG XL"):
                decode(data[:position] + hole + data[position + 20 :])


def test_a_panic_in_rust_is_a_reason(monkeypatch):
    class PanicException(BaseException):
        pass

    def panic(data):
        raise PanicException

    monkeypatch.setattr("pillow_jxl.Decoder", lambda **_: panic)
    with pytest.raises(UnreadableImageError, match=r"^damaged JPEG XL"):
        decode(a_file("JPEG XL"))


def test_a_codec_that_libheif_lacks_is_no_damage():
    data = a_file("HEIC")
    with pytest.raises(UnreadableImageError, match=r"^HEIF with a feature that libheif does not know is not read"):
        decode(data.replace(b"hvc1", b"vvc1").replace(b"hvcC", b"vvcC"))


@pytest.mark.parametrize(("name", "module"), [("HEIC", "pillow_heif"), ("JPEG XL", "pillow_jxl")])
def test_without_its_plugin_a_format_has_a_name_and_two_ways_out(name, module, monkeypatch):
    data = a_file(name)
    for loaded in [found for found in sys.modules if found.split(".")[0] == module]:
        monkeypatch.setitem(sys.modules, loaded, None)
    reason = rf"^{name} needs the extra formats: pip install 'fewshot\[formats\]', or convert it to JPEG$"
    with pytest.raises(UnreadableImageError, match=reason):
        decode(data)


@pytest.mark.parametrize(
    ("beginning", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    ],
)
def test_a_signature_before_zeros_is_no_damaged_image(beginning, name):
    with pytest.raises(UnreadableImageError) as caught:
        decode(beginning + bytes(300))
    assert str(caught.value) == f"{name} with only zero bytes after its first 32; copy it again"
    for other in (beginning + bytes(300) + b"x", beginning):
        with pytest.raises(UnreadableImageError, match=rf"^(damaged|truncated) {name}"):
            decode(other)


def test_brands_tell_heic_from_avif(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for brands, name in (
        ((b"heic", b"mif1", b"heic"), "^HEIC needs"),
        ((b"mif1", b"heic"), "^HEIC needs"),
        ((b"mif1", b"miaf"), "^HEIF needs"),
        ((b"mif1", b"avif"), "^(damaged|truncated) AVIF"),
        ((b"avif", b"heic"), "^(damaged|truncated) AVIF"),
    ):
        body = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
        with pytest.raises(UnreadableImageError, match=name):
            decode(struct.pack(">I", len(body) + 4) + body + bytes(300))


def test_the_identity_of_decoding_names_the_plugins(monkeypatch):
    present = decoding_identity()

    def missing(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr("fewshot.image_formats.version", missing)
    absent = decoding_identity()
    assert present[0] == absent[0]
    assert present != absent
    assert [item.partition("==")[0] for item in present[1:]] == ["pillow-heif", "pillow-jxl-plugin"]
