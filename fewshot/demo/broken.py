"""Undecodable files such as real archives contain."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib

from PIL import Image


def broken_files(picture: bytes) -> dict[str, bytes]:
    """Return six files without a readable picture, by name.

    Args:
        picture: a WebP file; two of the broken files are made from it.
    """
    jpeg = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").save(jpeg, "JPEG", quality=90)
    return {
        "bomb.png": bomb(side=60_000),
        "cut.jpg": jpeg.getvalue()[: len(jpeg.getvalue()) // 2],
        "cut.webp": picture[: len(picture) // 2],
        "empty.jpg": b"",
        "garbage.webp": hashlib.shake_256(b"garbage").digest(2048),
        "notes.jpg": b"Pictures of the second week are on the other disk.\n",
    }


def bomb(*, side: int) -> bytes:
    """Return a decompression bomb: a PNG of a few bytes whose header claims side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(64))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
