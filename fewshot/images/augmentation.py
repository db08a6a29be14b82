"""Augmented views of a support image: RandomResizedCrop and a mirror, as a pure function of (seed, key, view).

The distribution is that of torchvision's `RandomResizedCrop` with `RandomHorizontalFlip`, which CLIP adapters train
and cache with (Tip-Adapter, CoOp); torchvision's own draw from a global generator.
"""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
from numpy.typing import NDArray

from fewshot.images.resizing import resize

_ATTEMPTS = 10
_RATIO = (3 / 4, 4 / 3)


def augmented_view(
    pixels: NDArray[np.uint8], *, size: int, seed: int, key: str, view: int, scale: tuple[float, float] = (0.5, 1.0)
) -> NDArray[np.uint8]:
    """Crop a random part of an image, resize it (bicubic) and mirror it half of the time.

    Args:
        pixels: [h, w, 3] uint8.
        size: side of the result in pixels, >= 1.
        seed: of the experiment.
        key: of the image; the same image gets the same views in any order and any process.
        view: number of the view, >= 0.
        scale: range of the crop's share of the area, in (0, 1].

    Returns:
        [size, size, 3] uint8.
    """
    generator = _generator(seed, key, view)
    height, width, _ = pixels.shape
    left, top, right, bottom = _crop_box(width, height, scale, generator)
    crop = resize(pixels[top:bottom, left:right], size, size)
    return np.ascontiguousarray(crop[:, ::-1]) if generator.random() < 0.5 else crop


def _generator(seed: int, key: str, view: int) -> np.random.Generator:
    """Return a generator that belongs to this view alone."""
    digest = hashlib.blake2b(json.dumps([seed, key, view]).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest)))


def _crop_box(
    width: int, height: int, scale: tuple[float, float], generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return a box (left, top, right, bottom) of random area and aspect; after ten misfits, the largest central one."""
    low, high = (math.log(ratio) for ratio in _RATIO)
    for _ in range(_ATTEMPTS):
        area = width * height * (scale[0] + (scale[1] - scale[0]) * generator.random())
        ratio = math.exp(low + (high - low) * generator.random())
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(generator.random() * (width - w + 1)), int(generator.random() * (height - h + 1))
            return left, top, left + w, top + h
    w = max(1, min(width, round(height * _RATIO[1])))
    h = max(1, min(height, round(width / _RATIO[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
