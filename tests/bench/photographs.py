"""Synthetic photographs: JPEG files of the usual size."""

from __future__ import annotations

import io
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 500, 375
DIFFERENT = 32
"""Number of different pictures; further files repeat them, which makes no difference to any contender."""


def write_photographs(folder: Path, count: int, *, width: int = WIDTH, height: int = HEIGHT) -> None:
    """Write JPEG files of about 50 KB (at the default size).

    Args:
        folder: created if missing.
        count: number of files.
        width: in pixels.
        height: in pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = [to_jpeg(photograph(seed, width, height)) for seed in range(min(count, DIFFERENT))]
    for index, content in enumerate(islice(cycle(contents), count)):
        (folder / f"{index:06d}.jpg").write_bytes(content)


def photograph(seed: int, width: int, height: int) -> Image.Image:
    """Return soft blobs with a little grain, which compress about as well as a photograph."""
    random = np.random.default_rng(seed)
    blobs = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    smooth = np.asarray(blobs.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    grain = random.normal(0, 6, (height, width, 1)).astype(np.float32)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def to_jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return file.getvalue()
