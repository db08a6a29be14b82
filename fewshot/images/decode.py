"""One image, from bytes to upright 8-bit RGB, or a reason why not. Nothing half-decoded ever comes back.

A file that is cut off is always refused. Damage inside is refused wherever the format lets a decoder see it: PNG has
check sums, JPEG mostly falls out of step; a flipped bit in GIF, WebP or BMP is just another picture.

Safe on anything that lies in an archive: the format is told from the contents and must be in a short list, the size
is checked before decoding, and any exception of a decoder becomes a reason.
"""

from __future__ import annotations

import re
from contextlib import suppress

from PIL import Image

from fewshot.errors import UnreadableImageError
from fewshot.images.jpeg import decode_jpeg
from fewshot.images.limits import MAX_PIXELS, crop_extreme
from fewshot.images.pillow_formats import FORMATS, decode_raster, image_format
from fewshot.images.rgb_conversion import to_rgb
from fewshot.images.warning_filter import pillow_silenced

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


def decode(data: bytes, *, min_side: int | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the first frame.

    Args:
        data: the whole file.
        min_side: for a caller who will make the image smaller anyway: a large JPEG is decoded at a reduced scale whose
            sides both are still at least this many pixels. None, and any other format: full size.
        max_pixels: largest area of the full image, in pixels.

    Returns:
        Mode RGB, upright (EXIF), over white where it was transparent. Of an image more than `limits.MAX_ASPECT` times
        as long as wide, the middle.

    Raises:
        UnreadableImageError: with a reason fit for a report: no path, no address in memory.
    """
    name = image_format(data)
    if name is None:
        known = ", ".join(FORMATS)
        raise UnreadableImageError(f"not an image ({known} are read)" if data else "empty file")
    with pillow_silenced():
        try:
            image = _decode(data, name, min_side=min_side, max_pixels=max_pixels)
        except UnreadableImageError:
            raise
        except Exception as error:  # decoders of hostile data raise anything
            raise UnreadableImageError(_reason(name, error)) from error
    return image


def _decode(data: bytes, name: str, *, min_side: int | None, max_pixels: int) -> Image.Image:
    if name == "JPEG":
        image = rgb = decode_jpeg(data, min_side=min_side, max_pixels=max_pixels)
    else:
        image = decode_raster(data, name, max_pixels=max_pixels)
        rgb = to_rgb(image)
    turn = _turn(image)
    rgb = crop_extreme(rgb)
    return rgb if turn is None else rgb.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How to turn the image upright; damaged EXIF says nothing, and does not make an image unreadable."""
    with suppress(Exception):
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    return None


def _reason(name: str, error: Exception) -> str:
    """One short line, e.g. "truncated PNG", "damaged JPEG: bad Huffman code"."""
    text = " ".join(str(error).split())
    if isinstance(error, EOFError) or re.search(r"truncated|premature end|too short|not enough", text, re.IGNORECASE):
        return f"truncated {name}"
    if isinstance(error, MemoryError):
        return f"{name} that would need too much memory"
    text = re.sub(r"(?i)^corrupt jpeg data: ", "", text)
    telling = " " in text and not re.search(r"<|/|0x[0-9a-f]{6}", text)
    return f"damaged {name}: {text[:100]}" if telling else f"damaged {name}"
