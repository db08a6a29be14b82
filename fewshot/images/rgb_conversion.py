"""Convert any Pillow mode to 8-bit RGB: high bit depths are scaled, not clipped; transparency goes over white."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewshot.errors import UnreadableImageError
from fewshot.image_formats import not_read

_TWELVE_BITS = 1 << 12
_BAND_PIXELS = 1 << 20
"""Pixels that are copied at a time: Pillow makes two copies of what it hands out."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to mode RGB.

    Args:
        image: any mode. 16-bit grey counts 65535 as white; `I` and `F` see `to_bytes`.

    Returns:
        A new image of the same size, mode RGB.

    Raises:
        ValueError: Pillow has no conversion from this mode, or no pixel is finite.
        UnreadableImageError: see `check_used_bits` and `check_visible`.
    """
    if image.mode.startswith("I;16"):
        return _grey16(np.asarray(image), image.info.get("transparency"))
    if image.mode in ("I", "F"):
        return _grey(to_bytes(np.asarray(image).astype(np.float64)))
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        return _over_white(image.convert("RGBA"))
    return image.convert("RGB")


def to_array(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of an image, [H, W, 3] uint8, in memory of their own.

    Args:
        image: mode RGB.
    """
    width, height = image.size
    if width * height <= _BAND_PIXELS:
        return np.array(image)
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return pixels


def check_used_bits(largest: int) -> None:
    """Refuse 16-bit samples that would be all but black, since they are 12-bit ones (of a microscope, of an X-ray).

    Args:
        largest: of the samples; 0 is black however many bits count.

    Raises:
        UnreadableImageError: only the lowest 12 bits are used.
    """
    if 0 < largest < _TWELVE_BITS:
        kind = f"a 16-bit image that uses only the lowest 12 bits (largest value {largest})"
        raise UnreadableImageError(not_read(kind, "scale it to 16 bits, or convert it to 8 bits"))


def check_visible(*, is_visible: bool) -> None:
    """Refuse an image that is transparent all over, mostly by a wrong alpha channel: it would be a white area.

    Raises:
        UnreadableImageError: no pixel is visible.
    """
    if not is_visible:
        raise UnreadableImageError("transparent all over, so nothing is visible; remove its alpha channel")


def to_bytes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale grey values of unknown range to [0, 255].

    The range is the smallest of [0, 1], [0, 255] and [0, 65535] that contains all finite values, or else that from
    their minimum to their maximum. Values that are not finite become black.

    Args:
        values: [H, W] float64.

    Returns:
        [H, W] float64 in [0, 255].

    Raises:
        ValueError: no value is finite.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("no finite pixel")
    low, high = float(finite.min()), float(finite.max())
    white = next((top for top in (1.0, 255.0, 65535.0) if low >= 0.0 and high <= top), None)
    if white is None:
        values, white = values - low, (high - low) or 1.0
    return np.nan_to_num(values / white * 255.0, nan=0.0, posinf=0.0, neginf=0.0)


def _grey16(values: NDArray[np.uint16], transparent: object) -> Image.Image:
    check_used_bits(int(values.max()))
    grey = values.astype(np.float64) / 257.0
    return _grey(np.where(values == transparent, 255.0, grey) if isinstance(transparent, int) else grey)


def _grey(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    check_visible(is_visible=image.getchannel("A").getextrema()[1] != 0)
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=image)
    return canvas
