"""CPU time from the bytes of a JPEG to the square that a model takes, in one thread."""

from __future__ import annotations

import io
import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import simplejpeg
import torch
import torchvision
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize, v2
from torchvision.transforms.functional import pil_to_tensor

from fewshot.backbones.image_crop import crop_of
from fewshot.images import decode_pixels, side_before_resizing
from fewshot.images.augmentation import augmented_view
from tests.bench.photographs import jpeg, photograph
from tests.bench.result import Gate, Result, medians

SIDE, VIEWS = 224, 10
SIZES = ((500, 375), (1000, 750), (2048, 1536))
OURS, FLOOR, DRAFT = "ours", "simplejpeg to sides >= 224, torch", "Pillow, draft of sides >= 448"
FULL, PLAIN, DECODER = "simplejpeg, torch", "Pillow", "torchvision.io, v2 transforms"
MIXED, GAP = "simplejpeg to sides >= 448, Pillow", "the same, reducing_gap = 2"
OUR_VIEWS, PILLOW_VIEWS = f"{VIEWS} views, ours", f"{VIEWS} views, Pillow"

_crop = crop_of(PreprocessCfg(size=SIDE))
_square = Compose([Resize(SIDE, InterpolationMode.BICUBIC), CenterCrop(SIDE), pil_to_tensor])
_v2 = v2.Compose([v2.Resize(SIDE, v2.InterpolationMode.BICUBIC), v2.CenterCrop(SIDE)])


def run(*, images: int, repeat: int, sizes: Sequence[tuple[int, int]] = SIZES) -> Result:
    """Decode and crop the same photographs in every way, in turns.

    Args:
        images: number of photographs of each size, at most.
        repeat: rounds.
        sizes: width and height in pixels of each column.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    columns = {f"{w} x {h}, CPU ms": _milliseconds(w, h, images=images, repeat=repeat) for w, h in sizes}
    torch.set_num_threads(threads)
    rows = [
        {"contender": name} | {column: values[name] for column, values in columns.items()}
        for name in [*CONTENDERS, OUR_VIEWS, PILLOW_VIEWS]
    ]
    first = next(iter(columns.values()))
    gates = [Gate.at_most(f"ours to {MIXED}, {sizes[0][0]} px", first[OURS] / first[MIXED], 0.51)]
    for size, values in zip(sizes, columns.values(), strict=True):
        gates.append(Gate.at_most(f"ours to {FLOOR}, {size[0]} px", values[OURS] / values[FLOOR], 1.45))
    return Result("decode", f"a JPEG, decoded, resized and cropped to {SIDE} x {SIDE}", rows, gates)


def _ours(data: bytes) -> torch.Tensor:
    return _crop(decode_pixels(data, min_side=side_before_resizing(SIDE)))


def _simplejpeg(data: bytes, side: int) -> NDArray[np.uint8]:
    """Decode at the smallest scale, in eighths and at most 1/2, at which both sides are long enough; 0 is full size."""
    return simplejpeg.decode_jpeg(data, min_height=side, min_width=side, min_factor=2 if side else 1)


def _draft(data: bytes) -> torch.Tensor:
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (2 * SIDE, 2 * SIDE))
    return _square(image)


def _with_gap(data: bytes) -> torch.Tensor:
    image = Image.fromarray(_simplejpeg(data, 2 * SIDE))
    shrink = SIDE / min(image.size)
    size = (int(image.width * shrink), int(image.height * shrink))
    return pil_to_tensor(CenterCrop(SIDE)(image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)))


def _decoder(data: bytes) -> torch.Tensor:
    return _v2(torchvision.io.decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8)))


CONTENDERS: Mapping[str, Callable[[bytes], torch.Tensor]] = {
    OURS: _ours,
    FLOOR: lambda data: _crop(_simplejpeg(data, SIDE)),
    FULL: lambda data: _crop(_simplejpeg(data, 0)),
    DECODER: _decoder,
    MIXED: lambda data: _square(Image.fromarray(_simplejpeg(data, 2 * SIDE))),
    GAP: _with_gap,
    DRAFT: _draft,
    PLAIN: lambda data: _square(Image.open(io.BytesIO(data)).convert("RGB")),
}


def _views(pixels: NDArray[np.uint8]) -> None:
    for view in range(VIEWS):
        augmented_view(pixels, size=SIDE, seed=0, key="", view=view)


def _pillow_views(image: Image.Image) -> None:
    """Resize crops of a mean size; half of them are mirrored."""
    width, height = (round(0.87 * side) for side in image.size)
    for view in range(VIEWS):
        crop = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(0, 0, width, height))
        pil_to_tensor(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view % 2 else crop)


def _milliseconds(width: int, height: int, *, images: int, repeat: int) -> dict[str, float]:
    """Return the CPU time of each contender for an image."""
    files = [jpeg(photograph(seed, width, height)) for seed in range(min(images, 7))]
    pixels = [decode_pixels(data, min_side=side_before_resizing(SIDE)) for data in files]
    pictures = [Image.fromarray(array) for array in pixels]
    inputs = {name: (contender, files) for name, contender in CONTENDERS.items()}
    views = {OUR_VIEWS: (_views, pixels), PILLOW_VIEWS: (_pillow_views, pictures)}
    return _medians(inputs, images, repeat) | _medians(views, images, repeat)


def _medians(
    inputs: Mapping[str, tuple[Callable[[Any], object], Sequence[Any]]], images: int, repeat: int
) -> dict[str, float]:
    """Return the CPU milliseconds of each contender for one of its inputs.

    They take turns for each image, in random order: the first finds nothing of the file in the caches.
    """
    samples, order = defaultdict(list), random.Random(0)
    for turn in range(repeat + 1):
        spent: dict[str, float] = defaultdict(float)
        for index in range(images):
            for name, (contender, given) in order.sample([*inputs.items()], len(inputs)):
                started = time.thread_time()
                contender(given[index % len(given)])
                spent[name] += time.thread_time() - started
        if turn:  # The first round is for the caches.
            for name, seconds in spent.items():
                samples[name].append(1000 * seconds / images)
    return medians(samples)
