"""Read from its tags how a page stores its pixels, and refuse variants that no decoder here reads correctly."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from fewshot.errors import UnreadableImageError
from fewshot.image_formats import not_read
from fewshot.images.limits import check_size
from fewshot.images.tiff.directories import Directory, NumberFormat, Tag

RAW, OLD_JPEG, JPEG = 1, 6, 7
BYTE_STREAMS = {RAW, 5, 8, 32773, 32946, 34925, 50000}
"""Methods of compression that pack bytes, whatever they mean: none, LZW, deflate, PackBits, old deflate, LZMA, zstd."""
_FAX = {2, 3, 4}
_WITH_PREDICTOR = BYTE_STREAMS - {RAW, 32773}
_COMPRESSIONS = {
    6: "old JPEG (in pieces)",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34676: "LogLuv",
    34677: "LogLuv",
    34887: "LERC",
    34933: "PNG",
    34934: "JPEG XR",
    22610: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_PACKED = {10, 12, 14}
"""Bits of samples that are packed without gaps, several in a whole number of bytes."""
_FULL_RANGE = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)
"""Black and white of luma and both chroma, as Pillow takes them (ReferenceBlackWhite)."""
_UNDEFINED = 4
"""Kind of number of samples that are to be read as unsigned ones; Pillow does not open them."""
_MAX_BANDS = 6
_MAX_SAMPLES = 64
"""Samples of a pixel whose sizes and kinds are compared; there may be more."""
_MAX_SEGMENTS = 1_000_000
"""Strips or tiles of a page: each costs a moment, however small."""


class Colours(IntEnum):
    """What samples mean (PhotometricInterpretation)."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    PALETTE = 3
    CMYK = 5
    YCBCR = 6
    CIELAB = 8


class Numbers(IntEnum):
    """What kind of number a sample is (SampleFormat)."""

    UNSIGNED = 1
    SIGNED = 2
    FLOAT = 3


class Alpha(IntEnum):
    """What the sample behind the colours is (ExtraSamples)."""

    NONE = 0
    PREMULTIPLIED = 1
    STRAIGHT = 2


BANDS = {Colours.RGB: 3, Colours.CMYK: 4, Colours.YCBCR: 3, Colours.CIELAB: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLayout:
    """How a page stores its pixels.

    Attributes:
        form: byte order, and whether it is a BigTIFF.
        width: in pixels.
        height: in pixels.
        colours: what the samples mean.
        numbers: what kind of number a sample is.
        is_undefined: whether the page leaves the kind open; the samples count as unsigned.
        bits: of a sample, the same for all.
        samples: of a pixel, the colours and what is behind them.
        alpha: what the first sample behind the colours is; NONE also where there is none.
        has_planes: whether each sample is stored in a plane of its own.
        compression: number of the method.
        predictor: 1 none, 2 differences, 3 differences of floating-point numbers.
        fill_order: 1, or 2 if the bits of every byte are reversed.
        orientation: 1 to 8.
        block: width and height of a tile; of a strip, the width of the page and its rows.
        is_tiled: whether blocks are tiles.
        offsets: of the blocks, plane after plane, row after row.
        sizes: in bytes, of the blocks as stored.
    """

    form: NumberFormat
    width: int
    height: int
    colours: Colours
    numbers: Numbers
    is_undefined: bool
    bits: int
    samples: int
    alpha: Alpha
    has_planes: bool
    compression: int
    predictor: int
    fill_order: int
    orientation: int
    block: tuple[int, int]
    is_tiled: bool
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def bands(self) -> int:
        """Samples of a pixel that are colours."""
        return BANDS.get(self.colours, 1)

    @property
    def is_plain(self) -> bool:
        """Whether Pillow reads it correctly: at most 8 bits, unsigned, interleaved samples."""
        if self.compression not in BYTE_STREAMS or self.colours not in _READ_BY_SAMPLES:
            return True
        is_interleaved = not self.has_planes or self.samples == 1
        is_odd = self.is_big_endian_bigtiff or (self.is_undefined and self.bits == 8)
        return self.bits <= 8 and self.numbers == Numbers.UNSIGNED and is_interleaved and not is_odd

    @property
    def is_big_endian_bigtiff(self) -> bool:
        """Whether it is a big-endian BigTIFF, which Pillow does not open."""
        return self.form.big and self.form.order == ">"


_READ_BY_SAMPLES = {Colours.WHITE_IS_ZERO, Colours.BLACK_IS_ZERO, Colours.RGB, Colours.CMYK}


def page_layout(page: Directory, form: NumberFormat, max_pixels: int) -> PageLayout:
    """Return how a page stores its pixels.

    Raises:
        UnreadableImageError: it has too many pixels, or is of a variant that is not read.
        ValueError: its tags make no sense.
        EOFError: some of its blocks are missing.
    """
    width, height = page.number(Tag.WIDTH, 0), page.number(Tag.HEIGHT, 0)
    check_size(width, height, max_pixels)
    is_tiled = Tag.TILE_OFFSETS in page.entries
    layout = PageLayout(
        form=form,
        width=width,
        height=height,
        colours=_colours(page),
        numbers=_numbers(page),
        is_undefined=page.number(Tag.FORMAT, Numbers.UNSIGNED) == _UNDEFINED,
        bits=_one(page, Tag.BITS, 1, "samples of different sizes"),
        samples=page.number(Tag.SAMPLES, 1),
        alpha=_alpha(page),
        has_planes=page.number(Tag.PLANAR, 1) == 2 and page.number(Tag.SAMPLES, 1) > 1,
        compression=page.number(Tag.COMPRESSION, RAW),
        predictor=page.number(Tag.PREDICTOR, 1) if page.number(Tag.COMPRESSION, RAW) in _WITH_PREDICTOR else 1,
        fill_order=page.number(Tag.FILL_ORDER, 1),
        orientation=page.number(Tag.ORIENTATION, 1),
        block=_block(page, width, height, is_tiled=is_tiled),
        is_tiled=is_tiled,
        offsets=page.values(Tag.TILE_OFFSETS if is_tiled else Tag.STRIP_OFFSETS),
        sizes=page.values(Tag.TILE_BYTES if is_tiled else Tag.STRIP_BYTES),
    )
    _check_bands(layout, page)
    _check_variant(layout, page)
    _check_blocks(layout)
    return layout


def refused(what: str) -> UnreadableImageError:
    """Return the error for a valid file of a variant that is not read."""
    return UnreadableImageError(not_read(f"TIFF with {what}", "convert it to JPEG, PNG or 8-bit TIFF"))


def _one(page: Directory, number: int, default: int, otherwise: str) -> int:
    """Return the value of a tag that has one for each sample, which must be the same."""
    values = set(page.values(number, _MAX_SAMPLES) or (default,))
    if len(values) > 1:
        raise refused(otherwise)
    return values.pop()


def _colours(page: Directory) -> Colours:
    compression = page.number(Tag.COMPRESSION, RAW)
    if Tag.PHOTOMETRIC not in page.entries and compression not in _FAX:
        raise refused("colours that it does not name (PhotometricInterpretation is missing)")
    value = page.number(Tag.PHOTOMETRIC, Colours.WHITE_IS_ZERO)
    try:
        return Colours(value)
    except ValueError:
        raise refused(f"colours of kind {value}") from None


def _numbers(page: Directory) -> Numbers:
    value = _one(page, Tag.FORMAT, Numbers.UNSIGNED, "samples of different kinds")
    if value == _UNDEFINED:
        return Numbers.UNSIGNED
    try:
        return Numbers(value)
    except ValueError:
        raise refused("complex numbers") from None


def _alpha(page: Directory) -> Alpha:
    """Return the meaning of the sample behind the colours. A fourth sample of RGB is alpha, even if not declared."""
    colours, samples = page.number(Tag.PHOTOMETRIC, 0), page.number(Tag.SAMPLES, 1)
    undeclared = Alpha.STRAIGHT if colours == Colours.RGB and samples == 4 else Alpha.NONE
    kind = page.number(Tag.EXTRAS, undeclared)
    return Alpha(kind) if kind in (0, 1, 2) else Alpha.STRAIGHT


def _block(page: Directory, width: int, height: int, *, is_tiled: bool) -> tuple[int, int]:
    if is_tiled:
        size = page.number(Tag.TILE_WIDTH, 0), page.number(Tag.TILE_HEIGHT, 0)
    else:
        size = width, min(height, page.number(Tag.ROWS, height))
    if min(size) < 1:
        raise ValueError("strips or tiles without an area")
    return size


def _check_bands(layout: PageLayout, page: Directory) -> None:
    extras = layout.samples - layout.bands
    if extras < 0:
        raise ValueError("fewer samples than its colours have")
    declared = len(page.values(Tag.EXTRAS, _MAX_SAMPLES))
    is_custom = layout.colours == Colours.RGB and layout.samples == 4
    if layout.samples > _MAX_BANDS or (extras != declared and not is_custom):
        raise refused(f"{layout.samples} bands, {declared} of them declared as extra")
    if extras > 1 and layout.bands == 1:
        raise refused(f"{layout.samples} bands")


def _check_variant(layout: PageLayout, page: Directory) -> None:
    compression = layout.compression
    if compression not in BYTE_STREAMS | _FAX | {JPEG}:
        raise refused(f"{_COMPRESSIONS.get(compression, f'an unknown ({compression})')} compression")
    if layout.colours == Colours.YCBCR and compression != JPEG:
        _check_ycbcr(page)
    if layout.is_plain:
        _check_plain(layout)
    else:
        _check_samples(layout)


def _check_ycbcr(page: Directory) -> None:
    """Refuse subsampled or limited-range YCbCr, which Pillow would read as full-range with a value for each pixel."""
    if page.values(Tag.SUBSAMPLING, 2) != (1, 1):
        raise refused("subsampled YCbCr colours that are not JPEG")
    values = page.values(Tag.BLACK_AND_WHITE, 12)
    if values and tuple(a / max(1, b) for a, b in zip(values[::2], values[1::2], strict=True)) != _FULL_RANGE:
        raise refused("YCbCr colours of a range of their own")


def _check_plain(layout: PageLayout) -> None:
    if layout.is_big_endian_bigtiff:
        raise refused("palette, fax or JPEG in a big-endian BigTIFF")
    if layout.has_planes and (layout.compression, layout.colours) != (JPEG, Colours.RGB):
        raise refused(f"{layout.colours.name.lower()} samples in planes")
    if layout.bits > 8 or layout.bits not in (1, 2, 4, 8) or layout.numbers != Numbers.UNSIGNED:
        raise refused(f"{layout.bits}-bit {layout.colours.name.lower()} samples")


def _check_samples(layout: PageLayout) -> None:
    is_grey = layout.samples == 1
    if layout.numbers != Numbers.UNSIGNED and not is_grey:
        raise refused("colours in signed or floating-point numbers")
    widths = {
        Numbers.UNSIGNED: {8, 16} | _PACKED | ({32} if is_grey else set()),
        Numbers.SIGNED: {8, 16, 32},
        Numbers.FLOAT: {16, 32, 64},
    }
    if layout.bits not in widths[layout.numbers]:
        raise refused(f"{layout.bits}-bit samples")
    if layout.colours == Colours.CMYK and layout.alpha:
        raise refused("CMYK and transparency")
    if layout.predictor not in (1, 2, 3) or (layout.predictor > 1 and layout.bits in _PACKED):
        raise refused("an unknown predictor")
    if layout.predictor == 3 and layout.numbers != Numbers.FLOAT:
        raise ValueError("a predictor of floating-point numbers for integers")


def _check_blocks(layout: PageLayout) -> None:
    """Refuse pages of which blocks are missing: Pillow leaves them black, or shows the header of the file there."""
    across, down = blocks(layout)
    expected = across * down * (layout.samples if layout.has_planes else 1)
    if expected > _MAX_SEGMENTS:
        raise UnreadableImageError(f"refused: a TIFF of {expected} strips or tiles")
    if len(layout.offsets) < expected or 0 < len(layout.sizes) < expected:
        raise EOFError("strips or tiles are missing")
    if 0 in layout.offsets[:expected] or 0 in layout.sizes[:expected]:
        raise refused("empty blocks (a sparse file)")


def blocks(layout: PageLayout) -> tuple[int, int]:
    """Return how many blocks lie beside each other, and how many below."""
    (width, height), (block_width, block_height) = (layout.width, layout.height), layout.block
    return -(-width // block_width), -(-height // block_height)
