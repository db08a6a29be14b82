"""Decode the image of a TIFF: by Pillow where its pixels are right, otherwise from the samples, or refuse it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from fewshot.errors import UnreadableImageError
from fewshot.image_formats import DEVELOP, not_read
from fewshot.images.jpeg import decode_jpeg
from fewshot.images.rgb_conversion import check_used_bits, check_visible, to_bytes
from fewshot.images.tiff.camera_raw import camera_raw
from fewshot.images.tiff.directories import Directory, NumberFormat, Tag, number_format_of, read_directories
from fewshot.images.tiff.page_layout import (
    JPEG,
    OLD_JPEG,
    Alpha,
    Colours,
    Numbers,
    PageLayout,
    page_layout,
    refused,
)
from fewshot.images.tiff.stored_samples import stored_samples

_SUBSTITUTE_BITS = 16
"""Bits of unsigned samples, up to which the largest number is white; of more bits, white is not known."""


def decode_tiff(data: bytes, *, max_pixels: int) -> Image.Image:
    """Decode the first page that is not a reduced version of another, with its orientation in the EXIF data.

    Args:
        data: the file.
        max_pixels: the largest area.

    Raises:
        UnreadableImageError: it is too large, a camera's RAW, or of a variant that is not read.
        Exception: it is truncated or damaged.
    """
    form, directories = number_format_of(data), list(read_directories(data))
    if raw := camera_raw(data, directories):
        raise UnreadableImageError(not_read(raw, DEVELOP))
    if not directories:
        raise ValueError("there is no page")
    page = next((d for d in directories if not d.is_reduced), directories[0])
    if page.number(Tag.COMPRESSION, 0) == OLD_JPEG and Tag.JPEG_START in page.entries:
        return _whole_jpeg(data, page, max_pixels)
    layout = page_layout(page, form, max_pixels)
    if layout.compression == JPEG:
        _verify_jpegs(data, layout, page)
    if layout.is_plain:
        return _by_pillow(data if page is directories[0] else _beginning_with(data, page, form))
    return _oriented(_from_samples(data, layout), layout.orientation)


def _oriented(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image with its orientation in the EXIF data."""
    exif = Image.Exif()
    exif[Tag.ORIENTATION] = orientation if 1 <= orientation <= 8 else 1
    image.info["exif"] = exif.tobytes()
    return image


def _whole_jpeg(data: bytes, page: Directory, max_pixels: int) -> Image.Image:
    """Decode a page that is one whole JPEG, as nearly all files of the first standard of JPEG in TIFF have it."""
    start = page.number(Tag.JPEG_START, 0)
    jpeg = data[start : start + page.number(Tag.JPEG_BYTES, len(data))]
    pixels, _ = decode_jpeg(jpeg, min_side=None, max_pixels=max_pixels)
    if pixels.shape[:2] != (page.number(Tag.HEIGHT, 0), page.number(Tag.WIDTH, 0)):
        raise ValueError("the JPEG inside has another size")
    return _oriented(Image.fromarray(pixels), page.number(Tag.ORIENTATION, 1))


def _verify_jpegs(data: bytes, layout: PageLayout, page: Directory) -> None:
    """Decode the JPEG of each block at a small size, only to find damage, which libtiff would fill with grey.

    Raises:
        ValueError: one is damaged.
    """
    sizes = layout.sizes or (len(data),)
    if len(sizes) < len(layout.offsets) or sum(sizes) > 2 * len(data):
        raise ValueError("strips or tiles overlap")
    tables = bytes(page.values(Tag.JPEG_TABLES))[:-2]  # without the mark of the end
    for offset, size in zip(layout.offsets, sizes, strict=False):
        block = data[offset : offset + size]
        decode_jpeg(tables + block[2:] if tables else block, min_side=1, max_pixels=layout.block[0] * layout.block[1])


def _by_pillow(data: bytes) -> Image.Image:
    try:
        image = TiffImageFile(BytesIO(data))
    except SyntaxError as error:
        if "unknown pixel mode" not in str(error):
            raise
        raise refused("samples of a kind that is not known") from error
    image.load()
    return image


def _beginning_with(data: bytes, page: Directory, form: NumberFormat) -> bytes:
    """Return the file with another first page."""
    end = form.header_bytes + struct.calcsize(form.offset)
    return data[: form.header_bytes] + struct.pack(form.offset, page.offset) + data[end:]


def _from_samples(data: bytes, layout: PageLayout) -> Image.Image:
    parts = stored_samples(data, layout)
    if layout.numbers != Numbers.UNSIGNED or layout.bits > _SUBSTITUTE_BITS:
        values = np.concatenate([part[..., 0] for part in parts]).astype(np.float64)
        pixels = np.rint(to_bytes(values[: layout.height])).astype(np.uint8)
        image = Image.fromarray(255 - pixels if layout.colours == Colours.WHITE_IS_ZERO else pixels)
    else:
        pixels = np.concatenate([_to_8_bits(part, layout) for part in _checked(parts, layout)])[: layout.height]
        image = Image.fromarray(pixels, mode="CMYK") if layout.colours == Colours.CMYK else Image.fromarray(pixels)
    return image.convert("RGB")


def _checked(parts: Iterable[NDArray[Any]], layout: PageLayout) -> Iterator[NDArray[Any]]:
    """Pass unsigned samples through, and refuse them in the end if they would give a black or white area."""
    largest, is_visible = 0, layout.alpha == Alpha.NONE
    for part in parts:
        largest = max(largest, int(part[..., : layout.bands].max(initial=0)))
        is_visible = is_visible or bool(part[..., layout.bands].any())
        yield part
    check_visible(is_visible=is_visible)
    if layout.bits == _SUBSTITUTE_BITS and layout.colours in (Colours.BLACK_IS_ZERO, Colours.RGB):
        check_used_bits(largest)


def _to_8_bits(part: NDArray[Any], layout: PageLayout) -> NDArray[np.uint8]:
    """Scale unsigned samples to 8 bits, over white where they are transparent: [rows, W] or [rows, W, C]."""
    top, bands = (1 << layout.bits) - 1, layout.bands
    colours = part[..., :bands]
    if layout.colours == Colours.WHITE_IS_ZERO:
        colours = top - colours
    if layout.alpha == Alpha.NONE:
        scaled: NDArray[np.uint8] = np.rint(np.arange(top + 1) * (255 / top)).astype(np.uint8)[colours]
    else:
        light, alpha = colours / np.float32(top), part[..., bands : bands + 1] / np.float32(top)
        light = light if layout.alpha == Alpha.PREMULTIPLIED else light * alpha
        scaled = np.rint(np.clip(light + 1 - alpha, 0, 1) * 255).astype(np.uint8)
    return scaled.squeeze(-1) if bands == 1 else scaled
