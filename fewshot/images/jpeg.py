"""Decode JPEG with simplejpeg, which turns libjpeg's warnings into errors.

Pillow ignores those warnings, and libjpeg replaces damaged or missing data by grey. Pixels are otherwise the same as
Pillow's, bit for bit: both are libjpeg-turbo. Some warnings concern nothing visible (bytes between header segments,
padding before the end mark, a JFIF version); such a file is repaired in memory and decoded again. Chroma sampling that
simplejpeg does not support is left to Pillow, which detects missing data but not damage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import simplejpeg
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from fewshot.errors import UnreadableImageError
from fewshot.images.limits import check_scans, check_size

_SCAN, _APP0, _APP1, _ADOBE = 0xDA, 0xE0, 0xE1, 0xEE
_END, _SCAN_MARK = b"\xff\xd9", b"\xff\xda"
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0x(\w\w)")


def decode_jpeg(data: bytes, *, min_side: int | None, max_pixels: int) -> Image.Image:
    """Decode a JPEG, with its EXIF block in `info`, not yet turned upright.

    Args:
        data: the file, beginning with the JPEG mark.
        min_side: decode at a reduced scale (at most 1/2, in eighths) at which both sides have at least this many
            pixels; None, or an image that would become smaller, decodes at full size.
        max_pixels: the largest area of the full image.

    Returns:
        An RGB image.

    Raises:
        UnreadableImageError: the image is too large or has too many scans.
        ValueError: libjpeg found damage; the message is libjpeg's.
    """
    check_scans(data.count(_SCAN_MARK))
    try:
        return _decode(data, min_side or 0, max_pixels)
    except UnreadableImageError:
        raise
    except ValueError as error:
        if "subsampling" in str(error):
            return _decode_unusual(data, max_pixels)
        repaired = _repaired(data, str(error))
        if repaired is None:
            raise
    return _decode(repaired, min_side or 0, max_pixels)


def _decode(data: bytes, min_side: int, max_pixels: int) -> Image.Image:
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    check_size(width, height, max_pixels)
    check_scans(data.count(_SCAN_MARK), width, height)
    ink = colours in ("CMYK", "YCCK")
    pixels = simplejpeg.decode_jpeg(
        data,
        colorspace="CMYK" if ink else "RGB",
        min_height=min_side,
        min_width=min_side,
        min_factor=2 if min_side else 1,
    )
    segments = dict(_segments(data))
    image = _ink_to_rgb(pixels, inverted=_ADOBE in segments) if ink else Image.fromarray(pixels)
    exif = segments.get(_APP1, slice(0, 0))
    if data[exif][4:10] == b"Exif\0\0":
        image.info["exif"] = data[exif][4:]
    return image


def _decode_unusual(data: bytes, max_pixels: int) -> Image.Image:
    image = JpegImageFile(BytesIO(data))
    check_size(*image.size, max_pixels)
    rgb = image.convert("RGB")
    rgb.info = {name: value for name, value in image.info.items() if name == "exif"}
    return rgb


def _ink_to_rgb(pixels: np.ndarray, *, inverted: bool) -> Image.Image:
    """Convert CMYK pixels to RGB; Adobe stores them inverted, with 255 for "no ink"."""
    return Image.fromarray(255 - pixels if inverted else pixels, mode="CMYK").convert("RGB")


def _segments(data: bytes) -> Iterator[tuple[int, slice]]:
    """Yield marker and extent of each header segment, without the bytes between them; the last one is all scans.

    Of several APP1 segments `dict` would keep the last, which may be XMP; so only the one with EXIF is yielded.
    """
    position = data.find(b"\xff", 2)
    while 0 <= position < len(data) - 4:
        marker = data[position + 1]
        if marker == _SCAN:
            yield marker, slice(position, len(data))
            return
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9:  # No marker, or one without a segment.
            position = data.find(b"\xff", position + 1)
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        if marker != _APP1 or data[position + 4 : position + 8] == b"Exif":
            yield marker, slice(position, end)
        position = data.find(b"\xff", end)


def _repaired(data: bytes, warning: str) -> bytes | None:
    """Return the file without the cause of libjpeg's warning, if that is harmless; None if it is not."""
    if found := _EXTRANEOUS.search(warning):
        count, marker = int(found[1]), int(found[2], 16)
        return _without_padding(data, count) if marker == _END[1] else _with_header_repaired(data)
    return _with_header_repaired(data) if "JFIF revision" in warning else None


def _without_padding(data: bytes, count: int) -> bytes | None:
    """Remove bytes left over at the end if they are equal, hence padding; other bytes mean earlier damage: None."""
    scan = dict(_segments(data)).get(_SCAN)
    end = data.find(_END, scan.start) if scan else -1
    if end < count or len(set(data[end - count : end])) > 1:
        return None
    return data[: end - count] + data[end:]


def _with_header_repaired(data: bytes) -> bytes:
    parts = [b"\xff\xd8"]
    for marker, extent in _segments(data):
        part = data[extent]
        if marker == _APP0 and part[4:9] == b"JFIF\0":
            part = part[:9] + b"\x01" + part[10:]
        parts.append(part)
    return b"".join(parts)
