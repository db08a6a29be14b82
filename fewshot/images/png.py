"""Decode PNG from the chunks that make the pixels; profiles, texts and animation are left out.

Pillow decodes what remains: header, palette, transparent colour, pixels, orientation. All other chunks may be large,
damaged or cut off, since they change no pixel. The checksums of the remaining chunks are verified.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from io import BytesIO

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from fewshot.errors import UnreadableImageError
from fewshot.image_formats import not_read
from fewshot.images.limits import check_size

_MAGIC = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND" + zlib.crc32(b"IEND").to_bytes(4)
_FRAME_BYTES = 12
"""Bytes of a chunk besides its body: length, kind, checksum."""
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
_ORIENTATION_CHUNKS = {b"eXIf": b"", b"tEXt": b"Raw profile type exif\0", b"zTXt": b"Raw profile type exif\0"}
_ORIENTATION_CHUNKS[b"iTXt"] = b"XML:com.adobe.xmp\0"
"""Chunks that may hold the orientation, and how they begin."""
_MAX_ORIENTATION_BYTES = 1 << 20
_GREY, _RGB, _PALETTE = 0, 2, 3


def decode_png(data: bytes, *, max_pixels: int) -> Image.Image:
    """Decode a PNG in its own mode, not yet turned upright; of an animation, the still image.

    Args:
        data: the file.
        max_pixels: the largest area.

    Raises:
        UnreadableImageError: the image is too large, or of a kind that is not read.
        Exception: the file is truncated or damaged.
    """
    depth, colours = _header(data, max_pixels)
    chunks = _kept(data)
    kinds = {kind for kind, _ in chunks}
    if colours == _PALETTE and b"PLTE" not in kinds:
        raise ValueError("the palette is missing")
    if colours == _RGB and depth == 16 and b"tRNS" in kinds:
        raise UnreadableImageError(not_read("a 16-bit PNG with a transparent colour"))
    image = _opened(chunks)
    image.load()
    if colours == _GREY and isinstance(key := image.info.get("transparency"), int) and depth > 1:
        image.info["transparency"] = _grey_key(key, depth)
    return image


def _header(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return bit depth and colour type."""
    kind, start, _ = next(_chunks(data), (b"", 0, 0))
    if kind == b"CgBI":
        raise UnreadableImageError(not_read("PNG in Apple's form for apps (CgBI)"))
    if kind != b"IHDR":
        raise ValueError("the header is missing")
    width, height, depth, colours = struct.unpack_from(">IIBB", data, start)
    check_size(width, height, max_pixels)
    return depth, colours


def _opened(chunks: Sequence[tuple[bytes, bytes]]) -> PngImageFile:
    """Open a PNG of these chunks, each with its kind; without those of the orientation if they are damaged."""
    pixels = [(kind, chunk) for kind, chunk in chunks if kind in _PIXEL_CHUNKS]
    try:
        return PngImageFile(_file(sorted(chunks, key=lambda item: item[0] == b"IDAT")))
    except (SyntaxError, ValueError):
        return PngImageFile(_file(pixels))


def _file(chunks: Sequence[tuple[bytes, bytes]]) -> BytesIO:
    return BytesIO(b"".join([_MAGIC, *(chunk for _, chunk in chunks), _END]))


def _kept(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks that are kept, each with its kind."""
    kinds: set[bytes] = set()
    chunks = []
    for kind, start, end in _chunks(data):
        if kind in _PIXEL_CHUNKS and (kind == b"IDAT" or not kinds & {kind, b"IDAT"}):
            _check_is_intact(data, kind, start, end)
        elif not _holds_orientation(data, kind, start, end):
            continue
        kinds.add(kind)
        chunks.append((kind, data[start - 8 : end + 4]))
    return chunks


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the body of each chunk. After the pixels, a chunk that is cut off ends the file.

    Raises:
        EOFError: the file ends in or before the pixels.
    """
    position, has_pixels = len(_MAGIC), False
    while True:
        length, kind = struct.unpack_from(">I4s", data.ljust(position + 8, b"\0"), position)
        end = position + _FRAME_BYTES + length
        if kind == b"IEND" or not kind.isalpha() or end > len(data):
            break
        yield kind, position + 8, end - 4
        has_pixels |= kind == b"IDAT"
        position = end
    if kind == b"IDAT" or not has_pixels:
        raise EOFError("the file ends early")


def _check_is_intact(data: bytes, kind: bytes, start: int, end: int) -> None:
    if not _is_intact(data, kind, start, end):
        raise ValueError(f"wrong checksum of {kind.decode()}")


def _is_intact(data: bytes, kind: bytes, start: int, end: int) -> bool:
    body = memoryview(data)[start:end]
    return zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(data[end : end + 4])


def _holds_orientation(data: bytes, kind: bytes, start: int, end: int) -> bool:
    """Whether a chunk that makes no pixels is needed nevertheless.

    Raises:
        ValueError: it makes pixels: it has the checksum of such a chunk, and a damaged name.
    """
    if not _is_intact(data, kind, start, end):
        for name in _PIXEL_CHUNKS:
            if kind != name and _is_intact(data, name, start, end):
                raise ValueError(f"wrong checksum of {name.decode()}")
        return False
    begins = _ORIENTATION_CHUNKS.get(kind)
    return begins is not None and end - start <= _MAX_ORIENTATION_BYTES and data.startswith(begins, start)


def _grey_key(key: int, depth: int) -> int:
    """Return the transparent grey as Pillow's pixels have it: in 8 or 16 bits; the file has it in its own depth."""
    top = (1 << depth) - 1
    return (key & top) * (255 // top if depth < 8 else 1)
