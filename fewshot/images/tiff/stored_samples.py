"""Samples of a page as numbers, whatever their size, order and arrangement.

Pillow's table of modes ends at 8 bits, with some exceptions, several of them wrong. Here Pillow (libtiff) only unpacks
bytes: strips or tiles are handed to it as a TIFF of one 8-bit band, as wide as a row has bytes. What the bytes mean is
decided here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile

from fewshot.errors import UnreadableImageError
from fewshot.images.limits import MAX_PIXELS
from fewshot.images.tiff.directories import Tag
from fewshot.images.tiff.page_layout import RAW, Numbers, PageLayout, blocks

_CHUNK_BYTES = 4 << 20
"""Unpacked bytes that are handled at a time, unless a single row of blocks has more."""
_CODES = {Numbers.UNSIGNED: "u", Numbers.SIGNED: "i", Numbers.FLOAT: "f"}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_LONG = 4


def stored_samples(data: bytes, layout: PageLayout) -> Iterator[NDArray[Any]]:
    """Yield the samples of a page from top to bottom.

    Args:
        data: the file.
        layout: of the page, with samples of 8, 10, 12, 14 or 16 bits, or numbers of 16 to 64 bits.

    Yields:
        [rows, W, N], unsigned, signed or floating-point, in the machine's order; N samples of a pixel.

    Raises:
        EOFError: blocks are cut off.
        OSError: libtiff found damage.
        UnreadableImageError: a block would take too much memory.
    """
    layout = _thinner(layout)
    across, down = blocks(layout)
    planes = layout.samples if layout.has_planes else 1
    step = max(1, _CHUNK_BYTES // (planes * across * layout.block[1] * _row_bytes(layout)))
    for top in range(0, down, step):
        rows = range(top, min(top + step, down))
        unpacked = [_unpacked(data, layout, rows, plane) for plane in range(planes)]
        thin = max(1, _CHUNK_BYTES // (planes * across * _row_bytes(layout)))
        for start in range(0, len(unpacked[0]), thin):  # Numbers and light take more memory than bytes.
            parts = [_numbers(plane[start : start + thin], layout) for plane in unpacked]
            yield np.concatenate(parts, axis=-1) if planes > 1 else parts[0]


def _row_bytes(layout: PageLayout) -> int:
    """Bytes of a row of one block."""
    samples = 1 if layout.has_planes else layout.samples
    return -(-layout.block[0] * samples * layout.bits // 8)


def _unpacked(data: bytes, layout: PageLayout, rows: range, plane: int) -> NDArray[np.uint8]:
    """Return rows of blocks, unpacked: [rows of pixels, blocks across, bytes of a row of a block]."""
    across, down = blocks(layout)
    first = (plane * down + rows.start) * across
    packed = [_packed(data, layout, first + index) for index in range(len(rows) * across)]
    width, height = _row_bytes(layout), sum(_height(layout, row) for row in rows)
    if layout.compression != RAW:
        return _decompressed(packed, layout, across * width, height).reshape(height, across, width)
    unpacked = np.frombuffer(b"".join(packed), np.uint8).reshape(len(rows) if layout.is_tiled else 1, across, -1, width)
    return unpacked.swapaxes(1, 2).reshape(height, across, width)


def _height(layout: PageLayout, row: int) -> int:
    """Rows of pixels in a row of blocks; the last strip may be shorter than others, tiles are whole."""
    height = layout.block[1]
    return height if layout.is_tiled else min(height, layout.height - row * height)


def _packed(data: bytes, layout: PageLayout, index: int) -> bytes:
    """Return one block as stored; of raw ones, exactly what is needed."""
    across, down = blocks(layout)
    needed = _height(layout, index // across % down) * _row_bytes(layout)
    offset = layout.offsets[index]
    if layout.compression != RAW:
        size = layout.sizes[index] if layout.sizes else len(data)
        return data[offset : offset + min(size, 2 * needed + 1024)]  # More than that belongs to other blocks.
    block = data[offset : offset + needed]
    if len(block) < needed:
        raise EOFError("a strip or tile is cut off")
    return block.translate(_REVERSED) if layout.fill_order == 2 else block


def _thinner(layout: PageLayout) -> PageLayout:
    """Divide thick strips of unpacked bytes into thinner ones."""
    width = _row_bytes(layout)
    rows = max(1, _CHUNK_BYTES // width)
    if layout.compression != RAW or layout.is_tiled or layout.block[1] <= rows:
        return layout
    starts = [
        layout.offsets[plane * blocks(layout)[1] + row // layout.block[1]] + row % layout.block[1] * width
        for plane in range(layout.samples if layout.has_planes else 1)
        for row in range(0, layout.height, rows)
    ]
    return replace(layout, block=(layout.width, rows), offsets=tuple(starts), sizes=())


def _decompressed(packed: list[bytes], layout: PageLayout, width: int, height: int) -> NDArray[np.uint8]:
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(f"too large: a TIFF of which a strip has {width * height} bytes")
    image = TiffImageFile(BytesIO(_as_bytes(packed, layout, width, height)))
    image.load()
    return np.asarray(image)


def _as_bytes(packed: list[bytes], layout: PageLayout, width: int, height: int) -> bytes:
    """Return the blocks as a little-endian TIFF of one 8-bit band."""
    tiled = layout.is_tiled
    first = 8 + sum(map(len, packed))
    offsets = [8 + sum(map(len, packed[:index])) for index in range(len(packed))]
    fields: dict[int, list[int]] = {
        Tag.WIDTH: [width],
        Tag.HEIGHT: [height],
        Tag.BITS: [8],
        Tag.COMPRESSION: [layout.compression],
        Tag.PHOTOMETRIC: [1],
        Tag.FILL_ORDER: [layout.fill_order],
        Tag.SAMPLES: [1],
        Tag.TILE_OFFSETS if tiled else Tag.STRIP_OFFSETS: offsets,
        Tag.TILE_BYTES if tiled else Tag.STRIP_BYTES: [len(block) for block in packed],
    }
    if tiled:
        fields |= {Tag.TILE_WIDTH: [_row_bytes(layout)], Tag.TILE_HEIGHT: [layout.block[1]]}
    else:
        fields |= {Tag.ROWS: [layout.block[1]]}
    return b"".join([b"II*\0", struct.pack("<I", first), *packed, _directory(fields, first)])


def _directory(fields: dict[int, list[int]], offset: int) -> bytes:
    """Return a directory that lies at an offset, its longer values behind it."""
    entries, values = b"", b""
    behind = offset + 2 + 12 * len(fields) + _LONG
    for number, items in sorted(fields.items()):
        stored = struct.pack(f"<{len(items)}I", *items)
        if len(items) > 1:
            stored, values = struct.pack("<I", behind + len(values)), values + stored
        entries += struct.pack("<HHI", number, 4, len(items)) + stored
    return struct.pack("<H", len(fields)) + entries + bytes(_LONG) + values


def _numbers(rows: NDArray[np.uint8], layout: PageLayout) -> NDArray[Any]:
    """Turn bytes into samples: [rows, W, N], N = 1 for a plane."""
    samples = 1 if layout.has_planes else layout.samples
    width = layout.block[0] * samples
    if layout.bits in (10, 12, 14):
        values: NDArray[Any] = _unpacked_bits(rows, layout.bits)[..., :width]
    elif layout.predictor == 3:
        values = _undone_float_differences(rows, layout)
    else:
        values = _words(rows, layout)
    values = values.reshape(len(rows), -1, samples)
    return values[:, : layout.width]


def _words(rows: NDArray[np.uint8], layout: PageLayout) -> NDArray[Any]:
    """Return samples of whole bytes, [rows, blocks across, samples of a row]."""
    code, size = _CODES[layout.numbers], layout.bits // 8
    words = rows.view(f"{layout.form.order}u{size}").astype(f"=u{size}", copy=False)
    if layout.predictor == 2:
        samples = 1 if layout.has_planes else layout.samples
        pixels = words.reshape(*words.shape[:2], -1, samples)
        words = np.cumsum(pixels, axis=2, dtype=pixels.dtype).reshape(words.shape)
    return words.view(f"={code}{size}")


def _undone_float_differences(rows: NDArray[np.uint8], layout: PageLayout) -> NDArray[Any]:
    """Undo predictor 3: bytes of equal weight lie together, the highest first, as differences."""
    size = layout.bits // 8
    planes = np.cumsum(rows, axis=2, dtype=np.uint8).reshape(*rows.shape[:2], size, -1)
    return np.ascontiguousarray(planes.swapaxes(2, 3)).view(f">f{size}")[..., 0].astype(f"=f{size}")


def _unpacked_bits(rows: NDArray[np.uint8], bits: int) -> NDArray[np.uint16]:
    """Unpack samples that lie without gaps, the highest bits first. The result is padded behind the row."""
    together = lcm(bits, 8)
    padding = -rows.shape[2] % (together // 8)
    groups = np.pad(rows, ((0, 0), (0, 0), (0, padding))).reshape(*rows.shape[:2], -1, together // 8)
    whole = np.zeros(groups.shape[:3], np.uint64)
    for byte in range(together // 8):
        whole = (whole << np.uint64(8)) | groups[..., byte]
    shifts = np.arange(together - bits, -1, -bits, dtype=np.uint64)
    mask = np.uint64((1 << bits) - 1)
    return ((whole[..., None] >> shifts) & mask).astype(np.uint16).reshape(*rows.shape[:2], -1)
