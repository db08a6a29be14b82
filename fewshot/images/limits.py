"""Limits on the size of an image, checked on its header before a pixel is decoded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewshot.errors import UnreadableImageError

MAX_PIXELS = 178_956_970
"""Area of an image, unless a caller sets another limit: the one beyond which Pillow refuses to open a file."""
MAX_SCANS = 500
"""More scans than this only serve to make a decoder slow; progressive files have about ten (libjpeg-turbo's limit)."""
MAX_SCANNED_PIXELS = 4_000_000_000
"""Scans times pixels: every scan goes over the whole image, and takes a few bytes to do so. Twenty of the largest."""
MAX_ASPECT = 16
"""Only the middle of longer images is kept: resized to the short side of a model's input they would be enormous."""


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a decompression bomb.

    Raises:
        UnreadableImageError: the image has no area, or more than `max_pixels`.
    """
    if width < 1 or height < 1:
        raise UnreadableImageError(f"no area: {width} x {height} pixels")
    if width * height > max_pixels:
        raise UnreadableImageError(f"too large: {width} x {height} pixels, at most {max_pixels} are decoded")


def check_scans(scans: int, width: int = 0, height: int = 0) -> None:
    """Refuse a JPEG that takes long to decode.

    Args:
        scans: number of scans.
        width: in pixels; 0 before the header is read.
        height: likewise.

    Raises:
        UnreadableImageError: the image has more than `MAX_SCANS`, or more than `MAX_SCANNED_PIXELS` in all of them.
    """
    if scans > MAX_SCANS:
        raise UnreadableImageError(f"refused: a JPEG of more than {MAX_SCANS} scans")
    if scans * width * height > MAX_SCANNED_PIXELS:
        raise UnreadableImageError(f"refused: a JPEG of {scans} scans over {width} x {height} pixels")


def crop_extreme(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the middle of an image whose sides differ by more than `MAX_ASPECT`; other images unchanged.

    Args:
        pixels: [H, W, 3] uint8.

    Returns:
        [H', W', 3] uint8, contiguous.
    """
    height, width, _ = pixels.shape
    longest = MAX_ASPECT * min(width, height)
    if max(width, height) <= longest:
        return pixels
    new_width, new_height = min(width, longest), min(height, longest)
    left, top = (width - new_width) // 2, (height - new_height) // 2
    return np.ascontiguousarray(pixels[top : top + new_height, left : left + new_width])
