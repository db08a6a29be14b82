"""HEIC, HEIF and JPEG XL through the plug-ins of the extra `formats`, with the limits of all other formats."""

from __future__ import annotations

from io import BytesIO

import simplejpeg
from PIL import Image

from fewshot.errors import UnreadableImageError
from fewshot.image_formats import not_read
from fewshot.images.jpeg import decode_jpeg
from fewshot.images.jxl_header import JxlHeader, read_jxl_header
from fewshot.images.limits import check_size

_MAX_EXTRA_CHANNELS = 4
"""Of a JPEG XL: each is decoded as a whole image, whether it is shown or not."""
_BEGINNING = 32
"""Bytes that hold the signature of these formats and the kind of their content, and are no image."""
_ORIENTATION = 0x0112


def decode_by_plugin(data: bytes, name: str, *, min_side: int | None, max_pixels: int) -> Image.Image:
    """Decode the primary image in its own mode, its orientation in the EXIF data if it is not applied yet.

    Args:
        data: the file.
        name: its format, one of `image_formats.PLUGIN_FORMATS`.
        min_side: see `decode`; for a JPEG that is stored as JPEG XL.
        max_pixels: the largest area.

    Raises:
        UnreadableImageError: the plug-in is not installed; or the image is too large, of a kind that is not read, or
            not there, see `_is_hollow`.
        Exception: the plug-in's own, on damaged data.
    """
    try:
        if name == "JPEG XL":
            return _decode_jxl(data, min_side=min_side, max_pixels=max_pixels)
        return _decode_heif(data, max_pixels)
    except ImportError as error:
        needed = f"{name} needs the extra formats: pip install 'fewshot[formats]', or convert it to JPEG"
        raise UnreadableImageError(needed) from error
    except Exception as error:
        if _is_hollow(data) and not isinstance(error, UnreadableImageError):
            reason = f"{name} with only zero bytes after its first {_BEGINNING}; copy it again"
            raise UnreadableImageError(reason) from error
        raise


def _is_hollow(data: bytes) -> bool:
    """Return whether a file has the beginning of a format and nothing else, as failed copies and downloads leave it."""
    return len(data) > _BEGINNING and not data[_BEGINNING:].strip(b"\0")


def _decode_heif(data: bytes, max_pixels: int) -> Image.Image:
    """Decode HEIC or HEIF; libheif turns the image upright, and the plug-in removes the orientation."""
    from pillow_heif import options
    from pillow_heif.as_plugin import HeifImageFile

    options.DECODE_THREADS = 1  # There are as many threads as decode.
    try:
        image: Image.Image = HeifImageFile(BytesIO(data))
        check_size(*image.size, max_pixels)
        image.load()
    except (OSError, RuntimeError, SyntaxError, ValueError) as error:
        if "nsupported" in str(error):
            raise UnreadableImageError(not_read("HEIF with a feature that libheif does not know")) from error
        raise
    check_size(*image.size, max_pixels)  # It may have been another one than the header said.
    return image


def _decode_jxl(data: bytes, *, min_side: int | None, max_pixels: int) -> Image.Image:
    """Decode JPEG XL. The plug-in decodes while it opens, so the size is read before, without it."""
    from pillow_jxl import Decoder

    header = read_jxl_header(data)
    _check_jxl(header, max_pixels)
    try:
        is_jpeg, info, pixels, _, boxes = Decoder(num_threads=0)(data)
    except BaseException as error:
        if isinstance(error, RuntimeError) or type(error).__name__ == "PanicException":  # of Rust: a BaseException
            raise ValueError("libjxl found damage or an early end") from error
        raise
    if is_jpeg:
        return _inner_jpeg(pixels, header, min_side=min_side, max_pixels=max_pixels)
    size, mode = (info.width, info.height), info.mode
    image = Image.frombytes("F" if mode == "F;16" else mode, size, pixels, "raw", mode)
    exif = next((bytes(box.data) for box in boxes if box.box_type == b"Exif"), b"")
    if header.orientation == 1:  # Otherwise libjxl has turned it.
        image.info["exif"] = exif if exif[:2] in (b"II", b"MM") else exif[4 + int.from_bytes(exif[:4]) :]
    return image


def _check_jxl(header: JxlHeader, max_pixels: int) -> None:
    check_size(header.width, header.height, max_pixels)
    if header.is_animated:
        raise UnreadableImageError(not_read("animated JPEG XL"))
    if header.extra_channels > _MAX_EXTRA_CHANNELS:
        raise UnreadableImageError(not_read(f"JPEG XL with {header.extra_channels} extra channels"))


def _inner_jpeg(jpeg: bytes, header: JxlHeader, *, min_side: int | None, max_pixels: int) -> Image.Image:
    """Decode the JPEG that a JPEG XL file is a smaller form of, bit for bit."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
    if {height, width} != {header.height, header.width}:
        raise ValueError("the JPEG inside has another size")
    return decode_jpeg(jpeg, min_side=min_side, max_pixels=max_pixels)
