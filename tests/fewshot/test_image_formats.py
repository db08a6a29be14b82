"""What is not read is called by its name, with a way out: never "damaged", and "not an image" only where it is none."""

from __future__ import annotations

import struct

import pytest

from fewshot.errors import UnreadableImageError
from fewshot.image_formats import image_format, unread_reason
from fewshot.images import decode
from tests.strange_files import encode, photo


def boxes(brand: bytes, *compatible: bytes) -> bytes:
    body = b"ftyp" + brand + bytes(4) + b"".join(compatible)
    return struct.pack(">I", len(body) + 4) + body + bytes(300)


CONVERT, DEVELOP, RENDER, FRAMES = "convert it to JPEG", "develop it to JPEG", "render it as PNG", "extract its frames"
NAMED = [
    ("JPEG 2000", encode(photo(), "JPEG2000"), CONVERT),
    ("JPEG 2000", b"\xff\x4f\xff\x51" + bytes(300), CONVERT),
    (r"Photoshop \(PSD\)", b"8BPS\0\1" + bytes(300), CONVERT),
    ("JPEG XR", b"II\xbc\1" + bytes(300), CONVERT),
    ("OpenEXR", b"v/1\x01" + bytes(300), CONVERT),
    ("ICO", encode(photo(32, 32), "ICO"), CONVERT),
    ("ICNS", encode(photo(32, 32), "ICNS"), CONVERT),
    ("Netpbm", encode(photo(), "PPM"), CONVERT),
    ("TGA", encode(photo(), "TGA"), CONVERT),
    ("TGA", encode(photo(), "TGA", compression="tga_rle"), CONVERT),
    ("DDS", encode(photo(), "DDS"), CONVERT),
    ("SGI", encode(photo(), "SGI"), CONVERT),
    ("DICOM", bytes(128) + b"DICM" + bytes(300), CONVERT),
    ("FITS", b"SIMPLE  =                    T", CONVERT),
    (r"camera RAW \(CR3\)", boxes(b"crx ", b"isom"), DEVELOP),
    (r"camera RAW \(RAF\)", b"FUJIFILMCCD-RAW 0201" + bytes(300), DEVELOP),
    (r"camera RAW \(ORF\)", b"IIRO\x08\0\0\0" + bytes(300), DEVELOP),
    (r"camera RAW \(RW2\)", b"IIU\0\x18\0\0\0" + bytes(300), DEVELOP),
    ("PDF", encode(photo(), "PDF"), RENDER),
    ("PostScript", encode(photo(), "EPS"), RENDER),
    ("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>', RENDER),
    ("SVG", b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- drawn -->\n<svg/>', RENDER),
    (r"video \(MP4\)", boxes(b"isom", b"mp41"), FRAMES),
    (r"video \(QuickTime\)", boxes(b"qt  "), FRAMES),
    (r"video \(Matroska or WebM\)", b"\x1a\x45\xdf\xa3" + bytes(300), FRAMES),
    (r"video \(AVI\)", b"RIFF\0\0\0\0AVI LIST" + bytes(300), FRAMES),
]


@pytest.mark.parametrize(("kind", "data", "advice"), NAMED)
def test_other_kinds_have_a_name_and_a_way_out(kind, data, advice):
    with pytest.raises(UnreadableImageError, match=f"^{kind}.* is not read; {advice}"):
        decode(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer; run git lfs pull"),
        (b"/annex/objects/SHA256E-s1--0.jpg\n", "a git-annex pointer; run git annex get"),
        (b"\0\x05\x16\x07\0\2\0\0" + bytes(80), "an AppleDouble file"),
        (b"PK\x03\x04" + bytes(80), "a ZIP archive"),
        (bytes(5000), "only zero bytes; copy it again"),
    ],
)
def test_what_is_no_image_is_told_apart(data, what):
    with pytest.raises(UnreadableImageError, match=f"^not an image: {what}$"):
        decode(data)


@pytest.mark.parametrize(
    "data", [b"BM", b"\0" * 80 + b"x", b"P6 is a processor", b"<?xml version='1.0'?><Error/>", b"\xff\xd8", b"ftyp"]
)
def test_what_only_looks_alike_is_no_kind(data):
    with pytest.raises(UnreadableImageError, match=r"^(not an image |truncated BMP|damaged BMP)"):
        decode(data)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (boxes(b"isom", b"heic"), "HEIC"),
        (boxes(b"mif1", b"heic", b"avif"), "HEIC"),
        (boxes(b"mif1", b"avif"), "AVIF"),
        (boxes(b"avif", b"heic"), "AVIF"),
        (boxes(b"mif2"), "HEIF"),
        (boxes(b"isom", b"mif1"), "HEIF"),
        (boxes(b"isom") + b"heic", None),
        (struct.pack(">I", 16) + b"ftypisom\0\0\0\0heic", None),
        (b"\0\0\0\x18ftypisomheicisom", None),
        (b"GIF87a", "GIF"),
        (b"II+\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"RIFF\n\n\n\nWEBP", "WebP"),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"\xff\x0a", "JPEG XL"),
    ],
)
def test_a_format_is_told_by_the_first_bytes(data, name):
    assert image_format(data) == name


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"])
def test_every_brand_of_heic_is_known(brand):
    assert image_format(boxes(brand)) == "HEIC"


def test_an_svg_may_begin_with_a_long_comment_and_a_tga_is_told_by_its_end():
    assert unread_reason(b"<?xml version='1.0'?><!--" + b" " * 1000 + b"--><svg/>").startswith("SVG is not read")
    assert unread_reason(b"x" * 99 + b"TRUEVISION-XFILE.\0").startswith("TGA is not read")
    assert unread_reason(b"") == "empty file"
    assert unread_reason(bytes(80) + b"x").startswith("not an image (")
