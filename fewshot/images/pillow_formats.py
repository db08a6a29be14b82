"""Decode the first frame of the formats that Pillow reads right as they are, using only the plug-ins named here."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.WebPImagePlugin import WebPImageFile

from fewshot.images.limits import check_size

# The plug-ins are called directly, not through `Image.open`: it also tries formats that start other programs
# (PostScript), and its own bomb check obeys a global variable and warns.
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "AVIF": AvifImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "WebP": WebPImageFile,
}


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
    image = _PLUGINS[name](BytesIO(data))
    check_size(*image.size, max_pixels)
    image.load()
    return image
