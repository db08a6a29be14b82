"""Formats of images: which are read and by what, recognised by their first bytes, and names for what is not read.

Importing this imports no decoder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version

FORMATS = ("JPEG", "AVIF", "BMP", "GIF", "PNG", "TIFF", "WebP")
"""Formats that are always read."""
PLUGIN_FORMATS = {"HEIC": "pillow-heif", "HEIF": "pillow-heif", "JPEG XL": "pillow-jxl-plugin"}
"""Formats that are read with the extra `formats`, and the package that decodes them."""
DECODING_VERSION = 5
"""Raised when the same file gives other pixels, before or after resizing, or becomes readable or unreadable."""

CONVERT = "convert it to JPEG, PNG or TIFF"
DEVELOP = "develop it to JPEG or TIFF"
_RENDER = "render it as PNG or JPEG"
_FRAMES = "extract its frames as JPEG"

_START = 512
"""Bytes that patterns are matched against."""
_DECODED = {
    rb"\xff\xd8\xff": "JPEG",
    rb"\x89PNG\r\n\x1a\n": "PNG",
    rb"GIF8[79]a": "GIF",
    rb"BM": "BMP",
    rb"II[*+]\0|MM\0[*+]": "TIFF",
    rb"RIFF.{4}WEBP": "WebP",
    rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
}
_UNREAD = {
    CONVERT: {
        rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51": "JPEG 2000",
        rb"II\xbc": "JPEG XR",
        rb"8BPS": "Photoshop (PSD)",
        rb"v/1\x01": "OpenEXR",
        rb"#\?R(ADIANCE|GBE)": "Radiance HDR",
        rb"DDS ": "DDS",
        rb"\0\0\x01\0[^\0]\0": "ICO",
        rb"\0\0\x02\0[^\0]\0": "CUR",
        rb"\0\0[\x02\x03\x0a\x0b]\0{5}": "TGA",
        rb"icns": "ICNS",
        rb"gimp xcf": "GIMP (XCF)",
        rb"\x8aMNG|\x8bJNG": "MNG",
        rb"qoif": "QOI",
        rb"FLIF": "FLIF",
        rb"BPG\xfb": "BPG",
        rb"P([1-6]\s+[#\d]|7\n)": "Netpbm (PBM, PGM or PPM)",
        rb"\x59\xa6\x6a\x95": "Sun raster",
        rb"\x01\xda[\0\x01][\x01\x02]": "SGI",
        rb".{128}DICM": "DICOM",
        rb"SIMPLE  =": "FITS",
        rb"\x89HDF\r\n\x1a\n": "HDF5",
    },
    DEVELOP: {
        rb"II\x1a\0{3}HEAPCCDR": "camera RAW (CRW)",
        rb"FUJIFILMCCD-RAW": "camera RAW (RAF)",
        rb"IIR[OS]|MMOR": "camera RAW (ORF)",
        rb"IIU\0": "camera RAW (RW2)",
        rb"FOVb": "camera RAW (X3F)",
        rb"\0MRM": "camera RAW (MRW)",
    },
    _RENDER: {
        rb"%PDF-": "PDF",
        rb"%!PS|\xc5\xd0\xd3\xc6": "PostScript",
        rb"AT&TFORM": "DjVu",
        rb"\xd7\xcd\xc6\x9a|\x01\0{3}.{36} EMF": "Windows metafile",
        rb"(\xef\xbb\xbf)?\s*(<\?xml|<!--|<!DOCTYPE svg|<svg)": "SVG",  # if `<svg` follows, see `_unread`
    },
    _FRAMES: {
        rb"RIFF.{4}AVI ": "video (AVI)",
        rb"\x1a\x45\xdf\xa3": "video (Matroska or WebM)",
        rb"\0\0\x01[\xb3\xba]": "video (MPEG)",
        rb"FLV\x01": "video (FLV)",
        rb"OggS": "video (Ogg)",
        rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "video (WMV)",
        rb".{4}(moov|mdat|wide|pnot)": "video (QuickTime)",
    },
}
_NO_IMAGES = {
    rb"version https://git-lfs": "a Git LFS pointer; run git lfs pull",
    rb"\.?\.?/?\.git/annex/objects/|/annex/objects/": "a git-annex pointer; run git annex get",
    rb"(?i:(\xef\xbb\xbf)?\s*<(!doctype html|html))": "an HTML page",
    rb"\0\x05\x16[\0\x07]": "an AppleDouble file",
    rb"PK\x03\x04": "a ZIP archive",
    rb"\0{64}": "zeros",  # all of it, see `_no_image`
}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF = {b"avif", b"avis"}
_HEIF = {b"mif1", b"mif2", b"msf1", b"miaf"}
_MAX_BRANDS = 64


def decoding_identity() -> list[str | int]:
    """Return what decides which files are read and what their pixels are: this version, and those of the plug-ins."""
    return [DECODING_VERSION, *(f"{package}=={_version(package)}" for package in sorted({*PLUGIN_FORMATS.values()}))]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def image_format(data: bytes) -> str | None:
    """Detect a format that can be decoded, with or without a plug-in; None for any other content.

    Returns:
        One of `FORMATS` or `PLUGIN_FORMATS`.
    """
    if data[4:8] == b"ftyp":
        name, _ = _iso_media(data)
        return name if name in ("AVIF", "HEIC", "HEIF") else None
    return _match(_DECODED, data)


def unread_reason(data: bytes) -> str:
    """Return the reason why contents of no known format are not read: the name of the kind, and what to do."""
    if not data:
        return "empty file"
    if named := _unread(data):
        return not_read(*named)
    other = _no_image(data)
    return f"not an image: {other}" if other else f"not an image ({', '.join(FORMATS)} are read)"


def not_read(kind: str, advice: str = CONVERT) -> str:
    """Return the reason for a valid file of a kind that is not decoded.

    Args:
        kind: its name, such as "JPEG 2000".
        advice: what to do about it.
    """
    return f"{kind} is not read; {advice}"


def _unread(data: bytes) -> tuple[str, str] | None:
    """Return the name of a kind that is not decoded, and what to do about it."""
    if data[4:8] == b"ftyp":
        return _iso_media(data)
    if data[-18:].startswith(b"TRUEVISION-XFILE."):
        return "TGA", CONVERT
    for advice, kinds in _UNREAD.items():
        name = _match(kinds, data)
        if name and (name != "SVG" or b"<svg" in data[: 8 * _START]):
            return name, advice
    return None


def _no_image(data: bytes) -> str | None:
    """Return what a file is that is no image at all; None if unknown."""
    name = _match(_NO_IMAGES, data)
    if name == "zeros":
        return "only zero bytes; copy it again" if not data.strip(b"\0") else None
    return name


def _iso_media(data: bytes) -> tuple[str, str]:
    """Return name and advice of a file of boxes, by its brands; the major brand counts most."""
    end = min(int.from_bytes(data[:4]), 16 + 4 * _MAX_BRANDS, len(data))
    brands = [data[8:12], *(data[start : start + 4] for start in range(16, end, 4))]
    if brands[0] in _AVIF:
        return "AVIF", CONVERT
    if brands[0] == b"crx ":
        return "camera RAW (CR3)", DEVELOP
    for known, name in ((_HEIC, "HEIC"), (_AVIF, "AVIF"), (_HEIF, "HEIF")):
        if not known.isdisjoint(brands):
            return name, CONVERT
    return ("video (QuickTime)" if brands[0] == b"qt  " else "video (MP4)"), _FRAMES


def _match(kinds: Mapping[bytes, str], data: bytes) -> str | None:
    start = data[:_START]
    return next((name for pattern, name in kinds.items() if _compiled(pattern).match(start)), None)


@cache
def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)
