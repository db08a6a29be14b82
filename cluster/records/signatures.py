"""Recognise the packing of a file by its first bytes, as suffixes are often wrong."""

from __future__ import annotations

import re

HEAD_BYTES = 16
"""First bytes of a file that `packing_of` looks at."""

PARQUET = "a Parquet table"
MARKUP_BYTES = 256
"""First bytes of a file that `is_markup` looks at."""
GZIP, BZIP2, XZ, ZSTANDARD = "packed with gzip", "packed with bzip2", "packed with xz", "packed with Zstandard"

# A tar begins with the name of a member, so short marks of letters alone would take some names for a packing.
_SIGNATURES = (
    (GZIP, rb"\x1f\x8b"),
    (BZIP2, rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)"),
    (XZ, rb"\xfd7zXZ\x00"),
    (ZSTANDARD, rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
    ("packed with lz4", rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18"),
    ("packed with lzip", rb"LZIP[\x00\x01]"),
    ("packed with lzop", rb"\x89LZO\x00"),
    ("packed with compress (.Z)", rb"\x1f\x9d"),
    ("a zip file", rb"PK(\x03\x04|\x05\x06)"),
    ("a 7z archive", rb"7z\xbc\xaf\x27\x1c"),
    ("a RAR archive", rb"Rar!\x1a\x07"),
    (PARQUET, rb"PAR1\x15"),
)
_MARKUP = re.compile(rb"(?i:(\xef\xbb\xbf)?\s*<(!doctype\s|html[\s>]|\?xml\s))")


def is_markup(head: bytes) -> bool:
    """Return whether a file with these first bytes is a page or message of a web server, in HTML or XML."""
    return _MARKUP.match(head) is not None


def packing_of(head: bytes) -> str | None:
    """Return what a file with these first bytes is, as a phrase for messages; None if it is none of those known."""
    return next((name for name, mark in _SIGNATURES if re.match(mark, head, re.DOTALL)), None)
