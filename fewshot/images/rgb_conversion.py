"""Convert any Pillow mode to 8-bit RGB: high bit depths are scaled, not clipped; transparency goes over white."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to mode RGB.

    Args:
        image: any mode. 16-bit grey counts 65535 as white; `I` and `F` see `to_bytes`.

    Returns:
        A new image of the same size, mode RGB.

    Raises:
        ValueError: Pillow has no conversion from this mode, or no pixel is finite.
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
    grey = values.astype(np.float64) / 257.0
    return _grey(np.where(values == transparent, 255.0, grey) if isinstance(transparent, int) else grey)


def _grey(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=image)
    return canvas
