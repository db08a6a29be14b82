"""Decode the first frame of formats that Pillow reads correctly, using only the plug-ins named here."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.WebPImagePlugin import WebPImageFile

from fewshot.errors import UnreadableImageError
from fewshot.image_formats import not_read
from fewshot.images.limits import check_size

# The plug-ins are called directly, not through `Image.open`: it also tries formats that start other programs
# (PostScript), and its own bomb check obeys a global variable and warns.
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "AVIF": AvifImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "WebP": WebPImageFile,
}

_RIFF_HEADER = 12
_WEBP_PIXELS = (b"VP8 ", b"VP8L", b"ANMF")


def decode_raster(data: bytes, name: str, *, max_pixels: int) -> Image.Image:
    """Decode the first frame in its own mode, not yet turned upright.

    Args:
        data: the file.
        name: its format: AVIF, BMP, GIF or WebP.
        max_pixels: the largest area.

    Raises:
        UnreadableImageError: the image is too large.
        Exception: the plug-in's own, on damaged data.
    """
    try:
        image: Image.Image = _PLUGINS[name](BytesIO(_without_cut_metadata(data) if name == "WebP" else data))
    except OSError as error:
        if str(error).startswith("Unsupported BMP"):
            raise UnreadableImageError(not_read("BMP of an unusual layout")) from error
        raise
    check_size(*image.size, max_pixels)
    image.load()
    if name == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getbbox():
        return image.convert("RGB")  # Many programs write a zero alpha for opaque images.
    return image


def _without_cut_metadata(data: bytes) -> bytes:
    """Return a WebP without metadata at its end that are cut off; libwebp would refuse all of it."""
    if 8 + int.from_bytes(data[4:8], "little") <= len(data):
        return data
    position, has_pixels = _RIFF_HEADER, False
    while (end := position + _chunk_bytes(data, position)) <= len(data) and position + 8 <= len(data):
        has_pixels |= data[position : position + 4] in _WEBP_PIXELS
        position = end
    is_cut_metadata = data[position : position + 4] in (b"EXIF", b"XMP ", b"ICCP", b"")
    if not has_pixels or not is_cut_metadata:
        return data
    return data[:4] + (position - 8).to_bytes(4, "little") + data[8:position]


def _chunk_bytes(data: bytes, position: int) -> int:
    """Bytes of a chunk with its head, and with the byte that makes them even."""
    size = int.from_bytes(data[position + 4 : position + 8], "little")
    return 8 + size + size % 2
