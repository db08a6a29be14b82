"""Decode JPEG with simplejpeg, which turns libjpeg's warnings into errors.

Pillow ignores those warnings, and libjpeg replaces damaged or missing data by grey. Pixels are otherwise the same as
Pillow's, bit for bit: both are libjpeg-turbo. Some warnings concern nothing visible: bytes between header segments,
padding before the end mark, a JFIF version, colour profiles, a code for colours that libjpeg does not know, scan
parameters that a sequential file does not use. Such a file is reduced in memory to what its pixels need, and decoded
again. Chroma sampling that simplejpeg does not support is left to Pillow, which detects missing data but not damage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from itertools import islice

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from fewshot.errors import UnreadableImageError
from fewshot.image_formats import not_read
from fewshot.images.limits import MAX_PIXELS, MAX_SCANNED_PIXELS, MAX_SCANS, check_scans, check_size
from fewshot.images.rgb_conversion import to_array

_SCAN, _APP0, _APP1, _ADOBE = 0xDA, 0xE0, 0xE1, 0xEE
_METADATA = {*range(0xE0, 0xF0), 0xFE}
_SEQUENTIAL = {0xC0, 0xC1, 0xC9}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
_END = b"\xff\xd9"
_SCAN_MARK = int.from_bytes(b"\xff\xda", "little")
_NO_SCAN_DATA = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""The first marker after the data of a scan, which may contain restart marks and stuffed bytes."""
_HARMLESS = re.compile(
    r"extraneous bytes before marker|JFIF revision|Invalid SOS parameters|ICC marker|Adobe color transform"
)
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_KEPT = {_APP0: b"JFIF\0", _APP1: b"Exif\0\0", _ADOBE: b"Adobe"}
"""Metadata that decide colours or orientation, and how they begin."""
_DIVISORS = (8, 4, 2)
"""Of scaled decoding. libjpeg-turbo has vector code for these; at 3/8 it takes longer than at 1/2, at 5/8 to 7/8 longer
than at full size."""
_FEW_SCANS = MAX_SCANNED_PIXELS // MAX_PIXELS
"""So many are harmless in an image of any size."""
_MAX_REPAIRS = 3
_TRANSFORM = 15
"""Where the code for colours is in the Adobe segment."""


def decode_jpeg(data: bytes, *, min_side: int | None, max_pixels: int) -> tuple[NDArray[np.uint8], bytes]:
    """Decode a JPEG, not yet turned upright.

    Args:
        data: the file, beginning with the JPEG mark.
        min_side: decode at the smallest of the scales 1, 1/2, 1/4 and 1/8 at which both sides have at least this many
            pixels; None, or an image that would become smaller, decodes at full size.
        max_pixels: the largest area of the full image.

    Returns:
        RGB pixels [H, W, 3] uint8, and the EXIF block (empty if there is none).

    Raises:
        UnreadableImageError: the image is too large, has too many scans, or is of a kind that is not read.
        ValueError: libjpeg found damage; the message is libjpeg's.
    """
    scans = _scans(data)
    check_scans(scans)
    for _ in range(_MAX_REPAIRS):
        try:
            return _decode(data, scans, min_side or 0, max_pixels)
        except UnreadableImageError:
            raise
        except ValueError as error:
            warning = str(error)
        if refusal := _refusal(data):
            raise refusal
        if "subsampling" in warning:
            return _decode_unusual(data, max_pixels)
        data = _repaired(data, warning)
    return _decode(data, scans, min_side or 0, max_pixels)


def _scans(data: bytes) -> int:
    """Return the number of scans, or one more than `MAX_SCANS`.

    The mark of a scan also occurs by chance in a video behind the image, and in previews. There are hardly ever so many
    that it matters; then the scans of the image are counted one by one.
    """
    marks = _scan_marks(data)
    if marks <= _FEW_SCANS:
        return marks
    return len(list(islice((marker for marker, _ in _segments(data) if marker == _SCAN), MAX_SCANS + 1)))


def _scan_marks(data: bytes) -> int:
    """Return how often the mark of a scan occurs, as `bytes.count` does in nine times as long."""
    pairs = (np.frombuffer(data, "<u2", (len(data) - start) // 2, start) for start in (0, 1))
    return sum(int(np.count_nonzero(pair == _SCAN_MARK)) for pair in pairs)


def _decode(data: bytes, scans: int, min_side: int, max_pixels: int) -> tuple[NDArray[np.uint8], bytes]:
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    check_size(width, height, max_pixels)
    check_scans(scans, width, height)
    ink = colours in ("CMYK", "YCCK")
    divisor = _divisor(min(height, width), min_side)
    pixels = simplejpeg.decode_jpeg(
        data,
        colorspace="CMYK" if ink else "RGB",
        min_height=-(-height // divisor),
        min_width=-(-width // divisor),
    )
    return (_ink_to_rgb(pixels, data) if ink else pixels), _exif(data)


def _divisor(side: int, min_side: int) -> int:
    """Return the largest of `_DIVISORS` by which a side stays long enough; 1 if `min_side` is 0."""
    return next((divisor for divisor in _DIVISORS if min_side and -(-side // divisor) >= min_side), 1)


def _decode_unusual(data: bytes, max_pixels: int) -> tuple[NDArray[np.uint8], bytes]:
    image = JpegImageFile(BytesIO(data))
    check_size(*image.size, max_pixels)
    if image.mode == "CMYK":  # Pillow takes all ink for inverted.
        return _ink_to_rgb(255 - np.asarray(image), data), _exif(data)
    return to_array(image.convert("RGB")), _exif(data)


def _ink_to_rgb(pixels: NDArray[np.uint8], data: bytes) -> NDArray[np.uint8]:
    """Convert CMYK pixels to RGB; Adobe stores them inverted, with 255 for "no ink"."""
    is_inverted = _first(data, _ADOBE) is not None
    return to_array(Image.fromarray(255 - pixels if is_inverted else pixels, mode="CMYK").convert("RGB"))


def _exif(data: bytes) -> bytes:
    found = _first(data, _APP1)
    return b"" if found is None else data[found][4:]


def _first(data: bytes, marker: int) -> slice | None:
    """Return the first segment of a kind in `_KEPT`, searched before the first scan, as browsers do."""
    for found, extent in _segments(data, scans=False):
        if found == marker and data.startswith(_KEPT[marker], extent.start + 4):
            return extent
    return None


def _segments(data: bytes, *, scans: bool = True) -> Iterator[tuple[int, slice]]:
    """Yield marker and extent of each segment, without bytes between them.

    Args:
        data: the file.
        scans: go on to the end mark; a scan has its data in its extent. Otherwise stop before the first scan.
    """
    position = data.find(b"\xff", 2)
    while 0 <= position < len(data) - 4:
        marker = data[position + 1]
        if marker == _END[1] or (marker == _SCAN and not scans):
            return
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # No marker, or one without a segment.
            position = data.find(b"\xff", position + 1)
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        if marker == _SCAN:
            following = _NO_SCAN_DATA.search(data, end)
            end = following.start() if following else len(data)
        yield marker, slice(position, end)
        position = data.find(b"\xff", end)


def _repaired(data: bytes, warning: str) -> bytes:
    """Return the file without the causes of harmless warnings.

    Raises:
        ValueError: the warning is not harmless, or its cause could not be removed.
    """
    padded = _EXTRANEOUS.search(warning)
    if padded:
        repaired = _without_padding(data, int(padded[1]))
    else:
        repaired = _reduced(data) if _HARMLESS.search(warning) else data
    if repaired == data:
        raise ValueError(warning)
    return repaired


def _reduced(data: bytes) -> bytes:
    """Return the file with nothing but what its pixels need, and harmless mistakes corrected."""
    frame, parts, end = _frame(data), [data[:2]], 2
    for marker, extent in _segments(data):
        part, end = data[extent], extent.stop
        if marker == _SCAN and len(frame) > 1 and frame[1] in _SEQUENTIAL:
            part = _with_whole_spectrum(part)
        elif marker in _METADATA:
            part = _needed_metadata(marker, part, components=frame[9] if len(frame) > 9 else 0)
        parts.append(part)
    return b"".join([*parts, data[end : end + len(_END)]])


def _refusal(data: bytes) -> UnreadableImageError | None:
    """Return the error for a valid file of a process that libjpeg does not decode; None for any other."""
    frame = _frame(data)
    if len(frame) < 5:
        return None
    if frame[1] == 0xF7:
        return UnreadableImageError(not_read("JPEG-LS"))
    if frame[4] in (12, 16):
        return UnreadableImageError(not_read(f"JPEG with {frame[4]} bits a sample"))
    return UnreadableImageError(not_read("hierarchical JPEG")) if frame[1] & 0xF4 == 0xC4 else None


def _frame(data: bytes) -> bytes:
    """Return the segment that describes the frame; empty if there is none."""
    return next((data[extent] for marker, extent in _segments(data, scans=False) if marker in _FRAMES), b"")


def _with_whole_spectrum(scan: bytes) -> bytes:
    """Set the parameters of a scan that is not progressive to the only values they can have."""
    end = 2 + int.from_bytes(scan[2:4])
    return scan[: end - 3] + bytes([0, 63, 0]) + scan[end:]


def _needed_metadata(marker: int, part: bytes, *, components: int) -> bytes:
    """Return a segment of metadata with values that libjpeg knows; empty if pixels do not depend on it."""
    if marker not in _KEPT or not part.startswith(_KEPT[marker], 4):
        return b""
    if marker == _APP0:
        return part[:9] + b"\x01" + part[10:]
    if marker == _ADOBE and len(part) > _TRANSFORM:
        known = {3: (0, 1), 4: (0, 2)}.get(components)
        if known and part[_TRANSFORM] not in known:  # libjpeg takes the second for any other code
            return part[:_TRANSFORM] + bytes([known[1]]) + part[_TRANSFORM + 1 :]
    return part


def _without_padding(data: bytes, count: int) -> bytes:
    """Remove bytes left over at the end if they are equal, hence padding; other bytes mean earlier damage."""
    end = max((extent.stop for _, extent in _segments(data)), default=0)
    if end < count or data[end : end + len(_END)] != _END or len(set(data[end - count : end])) > 1:
        return data
    return data[: end - count] + data[end:]
