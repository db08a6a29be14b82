"""A writer of TIFFs in every arrangement, independent of the libraries that read them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class Variant:
    """How a TIFF stores its pixels."""

    bits: int = 8
    photometric: int = RGB
    order: str = "<"
    big: bool = False
    planar: bool = False
    tile: tuple[int, int] | None = None
    rows: int | None = None
    compression: int = NONE
    predictor: int = 1
    extras: Sequence[int] = ()
    sample_format: int = UNSIGNED
    fill_order: int = 1
    more: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Other tags, or other values of the same."""


def write_tiff(pixels: np.ndarray, variant: Variant) -> bytes:
    """A TIFF of one page.

    Args:
        pixels: [H, W, N] values as stored.
        variant: how they are stored.
    """
    height, width, samples = pixels.shape
    planes = np.split(pixels, samples, axis=-1) if variant.planar else [pixels]
    blocks = [_compressed(block, variant) for plane in planes for block in _blocks(plane, variant)]
    tags = {
        256: [width],
        257: [height],
        258: [variant.bits] * samples,
        259: [variant.compression],
        262: [variant.photometric],
        266: [variant.fill_order],
        277: [samples],
        284: [2 if variant.planar else 1],
        317: [variant.predictor],
        339: [variant.sample_format] * samples,
    }
    if variant.extras:
        tags[338] = list(variant.extras)
    if variant.tile:
        tags |= {322: [variant.tile[0]], 323: [variant.tile[1]]}
    else:
        tags |= {278: [variant.rows or height]}
    return _file(blocks, tags | dict(variant.more), variant)


def _blocks(plane: np.ndarray, variant: Variant) -> Iterator[np.ndarray]:
    height, width, _ = plane.shape
    tile_width, tile_height = variant.tile or (width, variant.rows or height)
    if variant.tile:
        plane = np.pad(plane, ((0, -height % tile_height), (0, -width % tile_width), (0, 0)), mode="edge")
    for top in range(0, len(plane), tile_height):
        for left in range(0, plane.shape[1], tile_width):
            yield plane[top : top + tile_height, left : left + tile_width]


def _compressed(block: np.ndarray, variant: Variant) -> bytes:
    data = _packed(block, variant)
    if variant.fill_order == 2 and variant.compression == NONE:
        return data.translate(_REVERSED)
    methods = {NONE: bytes, DEFLATE: zlib.compress, LZW: _lzw, PACKBITS: _packbits}
    return methods[variant.compression](data)


def _packed(block: np.ndarray, variant: Variant) -> bytes:
    code = {UNSIGNED: "u", SIGNED: "i", FLOAT: "f"}[variant.sample_format]
    if variant.bits % 8:
        values = block.astype(np.int64).reshape(len(block), -1, 1) >> np.arange(variant.bits - 1, -1, -1) & 1
        return np.packbits(values.reshape(len(block), -1).astype(np.uint8), axis=1).tobytes()
    size = variant.bits // 8
    values = np.ascontiguousarray(block.astype(f"{code}{size}"))
    if variant.predictor == 3:
        by_weight = values.astype(f">f{size}").view(np.uint8).reshape(len(block), -1, size).swapaxes(1, 2)
        values = np.diff(by_weight.reshape(len(block), -1), axis=1, prepend=np.uint8(0))
        return values.tobytes()
    words = values.view(f"u{size}")
    if variant.predictor == 2:
        words = np.diff(words, axis=1, prepend=words.dtype.type(0))
    return words.astype(f"{variant.order}u{size}").tobytes()


def _lzw(data: bytes) -> bytes:
    """LZW that never uses its dictionary: cleared before codes would need ten bits."""
    codes = []
    for start in range(0, len(data), 200):
        codes += [256, *data[start : start + 200]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


def _packbits(data: bytes) -> bytes:
    parts = (data[start : start + 128] for start in range(0, len(data), 128))
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def _file(blocks: Sequence[bytes], tags: dict[int, Sequence[int]], variant: Variant) -> bytes:
    order, start = variant.order, 16 if variant.big else 8
    offsets = [start + sum(map(len, blocks[:index])) for index in range(len(blocks))]
    where, sizes = (324, 325) if variant.tile else (273, 279)
    tags = {where: offsets, sizes: [len(block) for block in blocks]} | tags
    first = start + sum(map(len, blocks))
    mark = b"II" if order == "<" else b"MM"
    if variant.big:
        header = mark + struct.pack(f"{order}HHHQ", 43, 8, 0, first)
    else:
        header = mark + struct.pack(f"{order}HI", 42, first)
    return b"".join([header, *blocks, _directory(tags, first, order, big=variant.big)])


def _directory(tags: dict[int, Sequence[int]], offset: int, order: str, *, big: bool) -> bytes:
    """All values are LONG."""
    size, room = (20, 8) if big else (12, 4)
    counter, entry = ("Q", "HHQ") if big else ("H", "HHI")
    behind = offset + struct.calcsize(counter) + size * len(tags) + room
    entries, values = b"", b""
    for number, items in sorted(tags.items()):
        stored = struct.pack(f"{order}{len(items)}I", *items)
        if len(stored) > room:
            stored, values = struct.pack(f"{order}{'Q' if big else 'I'}", behind + len(values)), values + stored
        entries += struct.pack(f"{order}{entry}", number, 4, len(items)) + stored.ljust(room, b"\0")
    return struct.pack(f"{order}{counter}", len(tags)) + entries + bytes(room) + values
