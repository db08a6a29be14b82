"""Files as found in archives: unusual ones that must be decoded, and broken ones that must be refused with a reason."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401, the import registers the format
from PIL import Image

from tests import tiff_writer as tiff
from tests.tiff_writer import Variant, write_tiff

WIDTH, HEIGHT = 96, 64
_NEF = {262: [32803], 271: list(b"NIKON\0")}
_EXIF_ORIENTATION = 0x0112
pillow_heif.register_heif_opener()


def photo(width: int = WIDTH, height: int = HEIGHT, *, seed: int = 0) -> Image.Image:
    """Return a synthetic RGB photograph: colour gradients, two blobs and noise; its four corners differ."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    colours = np.stack([x, y, 0.5 + 0.4 * np.sin(9 * x + 4 * y)], axis=-1) * 200 + 20
    for cx, cy, colour in ((0.25, 0.3, (200, 40, 30)), (0.7, 0.4, (20, 80, 210))):
        colours[(x - cx) ** 2 + (y - cy) ** 2 < 0.02] = colour
    noise = np.random.default_rng(seed).normal(0, 5, colours.shape)
    return Image.fromarray((colours + noise).clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, name: str, **options: Any) -> bytes:
    """Return the bytes of an image file; options are those of `Image.save`."""
    buffer = BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def oriented(image: Image.Image, orientation: int, name: str = "JPEG", **options: Any) -> bytes:
    """Return an image file with an EXIF orientation, 1 to 8."""
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = orientation
    return encode(image, name, exif=exif.tobytes(), **options)


def png_of_size(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size that its data does not have."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


def png_chunk(kind: bytes, body: bytes, *, checksum: int | None = None) -> bytes:
    """Return a chunk of a PNG, with its own checksum or another."""
    stored = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", stored)


def with_hole(data: bytes, start: float, length: int) -> bytes:
    """Return data with `length` bytes replaced by their complement, from a relative position in [0, 1) on."""
    begin = int(start * len(data))
    hole = bytes(byte ^ 0xFF for byte in data[begin : begin + length])
    return data[:begin] + hole + data[begin + length :]


def write_strange_files(folder: Path) -> dict[str, str | None]:
    """Write all strange files into a folder.

    Returns:
        For each file name, None if it must be decoded, or a regular expression that its reason must match.
    """
    readable, broken = _readable(), _broken()
    for name, data in readable.items():
        (folder / name).write_bytes(data)
    for name, (data, _) in broken.items():
        (folder / name).write_bytes(data)
    return dict.fromkeys(readable) | {name: reason for name, (_, reason) in broken.items()}


def _readable() -> dict[str, bytes]:
    image = photo()
    files = {f"plain_{seed:02d}.jpg": encode(photo(seed=seed), "JPEG") for seed in range(20)}
    for group in (_jpegs, _pngs, _other_formats):
        files |= group(image)
    return files


def _jpegs(image: Image.Image) -> dict[str, bytes]:
    jpeg = encode(image, "JPEG")
    tables = jpeg.index(b"\xff\xdb")
    return {
        "cmyk.jpg": encode(image.convert("CMYK"), "JPEG"),
        "grey.jpg": encode(image.convert("L"), "JPEG"),
        "progressive.jpg": encode(image, "JPEG", progressive=True),
        "restart_markers.jpg": encode(image, "JPEG", restart_marker_rows=1),
        "rotated.jpg": oriented(image, 6),
        "broken_exif.jpg": encode(image, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        "a_jpeg_inside.png": jpeg,
        "no_suffix": jpeg,
        "junk_after_the_end.jpg": jpeg + b"appended by a camera" * 9,
        "junk_in_the_header.jpg": jpeg[:tables] + b"\x00\x11\x22" + jpeg[tables:],
        "padding_at_the_end.jpg": jpeg[:-2] + bytes(64) + jpeg[-2:],
        "jfif_version_2.jpg": jpeg.replace(b"JFIF\0\x01", b"JFIF\0\x02"),
        "scan_parameters.jpg": jpeg.replace(b"\0\x3f\0", b"\0\0\0", 1),
        "half_a_profile.jpg": jpeg[:2] + b"\xff\xe2\0\x20ICC_PROFILE\0\x01\x02" + bytes(16) + jpeg[2:],
        "unknown_colours.jpg": jpeg[:2] + b"\xff\xee\0\x0eAdobe" + bytes(6) + b"\x07" + jpeg[2:],
        "unusual_sampling.jpg": _with_chroma_sampling(jpeg, 0x14),
        "two_pictures.jpg": encode(image, "MPO", save_all=True, append_images=[photo(seed=1)]),
        "one_pixel.jpg": encode(photo(1, 1), "JPEG"),
    }


def _with_chroma_sampling(jpeg: bytes, factors: int) -> bytes:
    frame = bytearray(jpeg)
    frame[jpeg.index(b"\xff\xc0") + 14] = factors
    return bytes(frame)


def _pngs(image: Image.Image) -> dict[str, bytes]:
    plain = encode(image, "PNG")
    grey16 = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return {
        "palette.png": encode(image.convert("P"), "PNG"),
        "palette_transparent.png": encode(image.convert("P"), "PNG", transparency=b"\x00\x80\xff"),
        "grey_16_bit.png": encode(grey16, "PNG"),
        "alpha.png": encode(image.convert("RGBA").rotate(10, expand=True), "PNG"),
        "grey_alpha.png": encode(image.convert("LA"), "PNG"),
        "colour_key.png": encode(image, "PNG", transparency=(20, 20, 20)),
        "one_bit.png": encode(image.convert("1"), "PNG"),
        "animated.png": encode(image, "PNG", save_all=True, append_images=[photo(seed=1)]),
        "rotated.png": oriented(image, 3, "PNG"),
        "large_profile.png": plain[:33] + png_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1_300_000))) + plain[33:],
        "damaged_text.png": plain[:33] + png_chunk(b"tEXt", b"Title\0x")[:-1] + b"?" + plain[33:],
        "cut_behind_the_pixels.png": plain[:-9],
        "one_row.png": encode(photo(6000, 1), "PNG"),
        "one_column.png": encode(photo(1, 6000), "PNG"),
    }


def _other_formats(image: Image.Image) -> dict[str, bytes]:
    frames: dict[str, Any] = {"save_all": True, "append_images": [photo(seed=1)]}

    colours = np.asarray(image)
    floats = Image.fromarray((np.asarray(image.convert("L")) / 255).astype(np.float32))
    return {
        "still.gif": encode(image, "GIF"),
        "animated.gif": encode(image, "GIF", **frames),
        "still.webp": encode(image, "WEBP"),
        "animated.webp": encode(image, "WEBP", **frames),
        "alpha.webp": encode(image.convert("RGBA").rotate(10), "WEBP"),
        "still.bmp": encode(image, "BMP"),
        "still.avif": encode(image, "AVIF"),
        "pages.tiff": encode(image, "TIFF", **frames),
        "packed.tiff": encode(image, "TIFF", compression="tiff_lzw"),
        "cmyk.tiff": encode(image.convert("CMYK"), "TIFF"),
        "float.tiff": encode(floats, "TIFF"),
        "int_32_bit.tiff": encode(image.convert("L").convert("I"), "TIFF"),
        "planes_of_16_bits.tiff": write_tiff(colours.astype(np.uint16) * 257, Variant(16, planar=True)),
        "grey_of_12_bits.tiff": write_tiff(colours[..., :1].astype(np.uint16) * 16, Variant(12, tiff.BLACK_IS_ZERO)),
        "photo.heic": encode(image, "HEIF"),
        "photo.jxl": encode(image, "JXL"),
    }


def _broken() -> dict[str, tuple[bytes, str]]:
    image = photo()
    jpeg, progressive = encode(image, "JPEG"), encode(image, "JPEG", progressive=True)
    second_scan = progressive.index(b"\xff\xda", progressive.index(b"\xff\xda") + 1)
    return {
        "empty.jpg": (b"", "empty file"),
        "garbage.jpg": (np.random.default_rng(0).bytes(5000), "not an image"),
        "text.jpg": (b"this is no image\n" * 40, "not an image"),
        "error_page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "not an image"),
        "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n", "^PostScript is not"),
        "vector.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "^SVG is not read"),
        "scan.jp2": (encode(image, "JPEG2000"), "^JPEG 2000 is not read; convert it"),
        "layers.psd": (b"8BPS\0\x01" + bytes(300), "^Photoshop .PSD. is not read; convert it"),
        "photo.nef": (write_tiff(np.asarray(image), Variant(more=_NEF)), "^camera RAW .NEF. is not read; develop it"),
        "bands.tiff": (write_tiff(np.dstack([image, image]), Variant(extras=[0] * 3, more={277: [9]})), "9 bands"),
        "film.mp4": (b"\0\0\0\x14ftypisom" + bytes(300), "^video .MP4. is not read; extract its frames"),
        "truncated.heic": (encode(image, "HEIF")[:-100], "damaged HEIC"),
        "truncated.jxl": (encode(image, "JXL")[:-100], "damaged JPEG XL"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "truncated JPEG"),
        "truncated_then_ended.jpg": (jpeg[: len(jpeg) // 2] + b"\xff\xd9", "truncated JPEG"),
        "cut_in_the_header.jpg": (jpeg[:40], "(truncated|damaged) JPEG"),
        "no_end_mark.jpg": (jpeg[:-2], "truncated JPEG"),
        "one_scan_of_many.jpg": (progressive[:second_scan], "truncated JPEG"),
        "half_the_rows.jpg": (_with_height(jpeg, 2 * HEIGHT), "truncated JPEG"),
        "a_piece_missing.jpg": (jpeg[:1100] + jpeg[1200:], "truncated JPEG"),
        "hole.jpg": (with_hole(jpeg, 0.55, 60), "damaged JPEG"),
        "a_thousand_scans.jpg": (jpeg[:-2] + jpeg[jpeg.index(b"\xff\xda") :][:14] * 1000, "scans"),
        "truncated.png": (encode(image, "PNG")[:-100], "truncated PNG"),
        "hole.png": (with_hole(encode(image, "PNG"), 0.5, 4), "damaged PNG"),
        "bomb.png": (png_of_size(60_000, 60_000), "too large: 60000 x 60000"),
        "wide.jpg": (_with_height(_with_width(encode(image, "JPEG"), 65_500), 65_500), "too large"),
        "header_only.png": (png_of_size(300, 300), "truncated PNG|damaged PNG"),
        "truncated.gif": (encode(image, "GIF")[:-500], "truncated GIF"),
        "truncated.webp": (encode(image, "WEBP")[:-100], "damaged WebP"),
        "truncated.bmp": (encode(image, "BMP")[:-100], "truncated BMP"),
        "truncated.tiff": (encode(image, "TIFF")[:-100], "(truncated|damaged) TIFF"),
        "truncated.avif": (encode(image, "AVIF")[:-100], "(truncated|damaged) AVIF"),
        "not_finite.tiff": (encode(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"), "no finite pixel"),
    }


def _field_of_frame(offset: int) -> Callable[[bytes, int], bytes]:
    def patched(jpeg: bytes, value: int) -> bytes:
        start = jpeg.index(b"\xff\xc0") + offset
        return jpeg[:start] + struct.pack(">H", value) + jpeg[start + 2 :]

    return patched


_with_height, _with_width = _field_of_frame(5), _field_of_frame(7)
