"""Decode one image from bytes to upright 8-bit RGB, or refuse it with a reason. Partial images are never returned.

A truncated file is always refused. Damage inside is refused wherever the format lets a decoder detect it: PNG has
checksums, JPEG mostly loses synchronisation; a flipped bit in GIF, WebP or BMP is just another picture.

Decoding is safe on any file of an archive: the format is detected from the contents and must be in a short list, the
size is checked before decoding, and any exception of a decoder becomes a reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewshot.errors import UnreadableImageError
from fewshot.image_formats import PLUGIN_FORMATS, image_format, unread_reason
from fewshot.images.jpeg import decode_jpeg
from fewshot.images.limits import MAX_PIXELS, crop_extreme
from fewshot.images.pillow_formats import decode_raster
from fewshot.images.plugins import decode_by_plugin
from fewshot.images.png import decode_png
from fewshot.images.rgb_conversion import to_array, to_rgb
from fewshot.images.tiff import decode_tiff
from fewshot.images.warning_filter import ignore_pillow_warnings

_MARGIN = 2
"""Sides of a scaled decoding, relative to those that a caller resizes to: less costs half a point of accuracy and more
(docs/benchmarks.md)."""
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_pixels(data: bytes, *, min_side: int | None = None, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode the first frame.

    Args:
        data: the whole file.
        min_side: for callers that shrink the image, see `side_before_resizing`: a large JPEG is decoded at a reduced
            scale at which both sides have at least this many pixels. None, or another format, decodes at full size.
        max_pixels: largest area of the full image, in pixels.

    Returns:
        RGB [H, W, 3] uint8, contiguous and writable; upright (EXIF), over white where it was transparent. Of an image
        more than `limits.MAX_ASPECT` times as long as wide, the middle.

    Raises:
        UnreadableImageError: the message is a reason for reports, without paths or memory addresses.
    """
    name = image_format(data)
    if name is None:
        raise UnreadableImageError(unread_reason(data))
    with ignore_pillow_warnings():
        try:
            return _decode(data, name, min_side=min_side, max_pixels=max_pixels)
        except UnreadableImageError:
            raise
        except Exception as error:  # Decoders of hostile data raise anything.
            raise UnreadableImageError(_reason(name, error)) from error


def decode(data: bytes, *, min_side: int | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the first frame as `decode_pixels` does, to a Pillow image of mode RGB."""
    return Image.fromarray(decode_pixels(data, min_side=min_side, max_pixels=max_pixels))


def side_before_resizing(side: int) -> int:
    """Return the `min_side` for a caller that resizes the shorter side to `side` pixels."""
    return _MARGIN * side


def _decode(data: bytes, name: str, *, min_side: int | None, max_pixels: int) -> NDArray[np.uint8]:
    if name == "JPEG":
        pixels, exif = decode_jpeg(data, min_side=min_side, max_pixels=max_pixels)
        turn = _turn(lambda: _parsed(exif))
        return crop_extreme(pixels if turn is None else to_array(Image.fromarray(pixels).transpose(turn)))
    image = _stored_image(data, name, min_side=min_side, max_pixels=max_pixels)
    turn, rgb = _turn(image.getexif), to_rgb(image)
    return crop_extreme(to_array(rgb if turn is None else rgb.transpose(turn)))


def _stored_image(data: bytes, name: str, *, min_side: int | None, max_pixels: int) -> Image.Image:
    """Return the image in its own mode, as it is stored: its orientation is in the EXIF data."""
    if name == "PNG":
        return decode_png(data, max_pixels=max_pixels)
    if name == "TIFF":
        return decode_tiff(data, max_pixels=max_pixels)
    if name in PLUGIN_FORMATS:
        return decode_by_plugin(data, name, min_side=min_side, max_pixels=max_pixels)
    return decode_raster(data, name, max_pixels=max_pixels)


def _turn(exif: Callable[[], Image.Exif]) -> Image.Transpose | None:
    """Return the transposition that makes the image upright; damaged EXIF gives none, and the image stays readable."""
    with suppress(Exception):
        return _UPRIGHT.get(exif().get(_ORIENTATION, 1))
    return None


def _parsed(block: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(block)
    return exif


def _reason(name: str, error: Exception) -> str:
    """Return one short line, e.g. "truncated PNG", "damaged JPEG: bad Huffman code"."""
    text = " ".join(str(error).split())
    if isinstance(error, EOFError) or re.search(r"truncated|premature end|too short|not enough", text, re.IGNORECASE):
        return f"truncated {name}"
    if isinstance(error, MemoryError):
        return f"{name} that needs too much memory"
    text = re.sub(r"(?i)^corrupt jpeg data: ", "", text)
    is_readable = " " in text and not re.search(r"<|/|0x[0-9a-f]{6}", text)
    return f"damaged {name}: {text[:100]}" if is_readable else f"damaged {name}"
