"""Decode the first frame of every format but JPEG with Pillow, using only the plug-ins named here."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from fewshot.images.limits import check_size

# The plug-ins are called directly, not through `Image.open`: it also tries formats that start other programs
# (PostScript), and its own bomb check obeys a global variable and warns.
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "AVIF": AvifImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "PNG": PngImageFile,
    "TIFF": TiffImageFile,
    "WebP": WebPImageFile,
}

FORMATS = ("JPEG", *_PLUGINS)
"""The formats that are decoded."""

_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}


def image_format(data: bytes) -> str | None:
    """Detect the format, one of `FORMATS`, from the first bytes of a file; None for any other content."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        return "AVIF" if b"avif" in data[8:40] or b"avis" in data[8:40] else None
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)


def decode_raster(data: bytes, name: str, *, max_pixels: int) -> Image.Image:
    """Decode the first frame in its own mode, not yet turned upright.

    Args:
        data: the file.
        name: its format, one of `FORMATS` but JPEG.
        max_pixels: the largest area.

    Raises:
        UnreadableImageError: the image is too large.
        Exception: the plug-in's own, on damaged data.
    """
    image = _PLUGINS[name](BytesIO(data))
    check_size(*image.size, max_pixels)
    if name == "PNG":
        image.verify()  # Decoding alone does not verify checksums, and `verify` consumes the file.
        image = PngImageFile(BytesIO(data))
    image.load()
    return image
