"""Read the header of a JPEG XL (ISO 18181-1, annex D), up to the fields that limit how much must be decoded."""

from __future__ import annotations

from dataclasses import dataclass

from fewshot.errors import UnreadableImageError
from fewshot.image_formats import not_read

_SIGNATURE = b"\xff\x0a"
_HEADER_BYTES = 64
_MAX_BOXES = 1000
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


@dataclass(frozen=True, slots=True)
class JxlHeader:
    """Fields of the header.

    Attributes:
        width: in pixels, as stored.
        height: likewise.
        orientation: 1 to 8, as in EXIF; a decoder applies it.
        is_animated: whether there are several frames.
        extra_channels: number of channels beside the colours, such as alpha.
    """

    width: int
    height: int
    orientation: int
    is_animated: bool
    extra_channels: int


def read_jxl_header(data: bytes) -> JxlHeader:
    """Read the header of a file, bare or in a container.

    Raises:
        EOFError: the file ends before the header does.
        ValueError: there is none.
        UnreadableImageError: it has a preview, which no known encoder writes.
    """
    start = _codestream(data)
    if start[:2] != _SIGNATURE:
        raise ValueError("there is no codestream")
    bits = _Bits(start[2:])
    width, height = _size(bits)
    if bits.read(1):
        return JxlHeader(width, height, 1, is_animated=False, extra_channels=0)
    orientation = 1
    is_animated = False
    if bits.read(1):
        orientation = 1 + bits.read(3)
        if bits.read(1):
            _size(bits)  # at which the image is meant to be shown
        if bits.read(1):
            raise UnreadableImageError(not_read("JPEG XL with a preview"))
        is_animated = bool(bits.read(1))
    if is_animated:
        return JxlHeader(width, height, orientation, is_animated=True, extra_channels=0)
    return JxlHeader(width, height, orientation, is_animated=False, extra_channels=_extra_channels(bits))


class _Bits:
    """Reads numbers, the lowest bits first."""

    def __init__(self, data: bytes) -> None:
        self._bits, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def read(self, count: int) -> int:
        """Return the next bits as a number.

        Raises:
            EOFError: there are fewer.
        """
        self._left -= count
        if self._left < 0:
            raise EOFError("the header is cut off")
        value = self._bits & ((1 << count) - 1)
        self._bits >>= count
        return value

    def choice(self, *options: tuple[int, int]) -> int:
        """Return a number that two bits select: a base, and bits to be added to it."""
        base, count = options[self.read(2)]
        return base + self.read(count)


def _codestream(data: bytes) -> bytes:
    """Return the beginning of the codestream."""
    if data[:2] == _SIGNATURE:
        return data[:_HEADER_BYTES]
    start, position = b"", 0
    for _ in range(_MAX_BOXES):
        size, kind, body = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8], 8
        if size == 1:
            size, body = int.from_bytes(data[position + 8 : position + 16]), 16
        end = position + size if size else len(data)
        if kind in (b"jxlc", b"jxlp"):
            body += 4 * (kind == b"jxlp")
            start += data[position + body : min(end, position + body + _HEADER_BYTES)]
        if kind == b"jxlc" or len(start) >= _HEADER_BYTES or end >= len(data) or end < position + body:
            break
        position = end
    return start


def _size(bits: _Bits) -> tuple[int, int]:
    """Return width and height."""
    is_small = bits.read(1)
    height = _side(bits, is_small)
    ratio = bits.read(3)
    if not ratio:
        return _side(bits, is_small), height
    over, under = _RATIOS[ratio - 1]
    return height * over // under, height


def _side(bits: _Bits, is_small: int) -> int:
    return 8 * (1 + bits.read(5)) if is_small else bits.choice((1, 9), (1, 13), (1, 18), (1, 30))


def _extra_channels(bits: _Bits) -> int:
    """Return the number of extra channels, behind the depth of the samples."""
    if bits.read(1):
        bits.choice((32, 0), (16, 0), (24, 0), (1, 6))
        bits.read(4)  # of the exponent
    else:
        bits.choice((8, 0), (10, 0), (12, 0), (1, 6))
    bits.read(1)  # whether 16 bits are enough for decoding
    return bits.choice((0, 0), (1, 0), (2, 4), (1, 12))
