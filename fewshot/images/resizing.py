"""Resize decoded images with torch, in integers: bits depend neither on the machine nor on the number of threads.

torch's antialiased filters for uint8 are Pillow's, with weights of 16 bits instead of 32. Rows are resized before
columns, each rounded and clipped to [0, 255]; Pillow takes the cheaper order. So values of a photograph that shrinks
differ by 1 of 255, and more only where the filter overshoots in both directions, at hard edges that reach black or
white. The calling thread does all of it, outside Python's lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

Filter = Literal["bicubic", "bilinear"]
Picture = Image.Image | NDArray[np.uint8]
"""A decoded image: a Pillow image of mode RGB, or [h, w, 3] uint8."""


def resize(pixels: NDArray[np.uint8], height: int, width: int, *, by: Filter = "bicubic") -> NDArray[np.uint8]:
    """Resize an image.

    Args:
        pixels: [h, w, 3] uint8, writable; part of an array is copied first.
        height: H, in pixels.
        width: W, in pixels.
        by: the filter.

    Returns:
        [H, W, 3] uint8, contiguous.
    """
    image = torch.from_numpy(np.ascontiguousarray(pixels))[None].permute(0, 3, 1, 2)  # [1, 3, h, w], channels last
    resized = interpolate(image, size=(height, width), mode=by, antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def central_square(
    pixels: NDArray[np.uint8], side: int, *, by: Filter = "bicubic", resized_to: int | None = None
) -> NDArray[np.uint8]:
    """Resize the shorter side of an image, and cut out the centre: torchvision's `Resize` and `CenterCrop`.

    The rest is resized as well: the square begins between two pixels of the image, so that a part cut out before would
    be resized to other values.

    Args:
        pixels: [h, w, 3] uint8, writable.
        side: S, in pixels.
        by: the filter.
        resized_to: what the shorter side is resized to, at least S; None: S.

    Returns:
        [S, S, 3] uint8, contiguous.
    """
    height, width, _ = pixels.shape
    short, target = min(height, width), resized_to or side
    resized = resize(pixels, target * height // short, target * width // short, by=by)
    top, left = (round((length - side) / 2) for length in resized.shape[:2])
    return np.ascontiguousarray(resized[top : top + side, left : left + side])


@dataclass(frozen=True, slots=True)
class TorchCrop:
    """Brings an image to the size of a model's input.

    Attributes:
        height: H, in pixels.
        width: W, in pixels; equal to H unless images are squashed.
        is_squashed: whether the whole image becomes H x W; otherwise it keeps its aspect, and the central square
            remains.
        by: the filter.
        resized_to: what the shorter side is resized to before the square is cut out; None: its side.
    """

    height: int
    width: int
    is_squashed: bool
    by: Filter
    resized_to: int | None = None

    def __call__(self, image: Picture) -> Tensor:
        """Return [3, H, W] uint8, channels last in memory."""
        pixels = np.require(image, np.uint8, "W")  # Pillow's memory is read-only, and copied.
        if self.is_squashed:
            square = resize(pixels, self.height, self.width, by=self.by)
        else:
            square = central_square(pixels, self.height, by=self.by, resized_to=self.resized_to)
        return torch.from_numpy(square).permute(2, 0, 1)
