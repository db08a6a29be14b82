"""Images written as text, where a path or a URL is expected: data: URIs (RFC 2397) and base64 (RFC 4648).

A text counts as base64 if it has only characters of base64 (so no ".", which most paths have) and begins like an image
of a usual format.
"""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from cluster.records.base import EntryError
from cluster.records.reading import too_large

_BEGINNINGS = re.compile(r"/9j/|iVBORw0KGgo|R0lGOD|UklGR|SUkqA|TU0AK|AAAA.GZ0eX|AAAADEpYTCA")
"""How JPEG, PNG, GIF, WebP, TIFF, HEIF and AVIF, and JPEG XL begin in base64."""

_MIN_CHARACTERS = 64
"""Fewer are too few for an image: such a text is a path."""

_MAX_HEAD = 1 << 10
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_DATA = re.compile(r"data:[^,]*,", re.IGNORECASE)
_WHITESPACE = re.compile(r"[\r\n\t ]+")


def is_inline(text: str) -> bool:
    """Whether a text is an image itself, and not a path or URL."""
    if text[:5].lower() == "data:":
        return True
    if len(text) < _MIN_CHARACTERS or not _BEGINNINGS.match(text):
        return False
    return _BASE64.fullmatch(_WHITESPACE.sub("", text)) is not None


def max_characters(max_bytes: int) -> int:
    """Return how many characters an image of so many bytes takes at most: base64, with line ends, in a data: URI."""
    return max_bytes // 3 * 4 + max_bytes // 16 + _MAX_HEAD


def decode_inline(text: str, max_bytes: int) -> bytes:
    """Return the bytes of an image that is written as text.

    Raises:
        EntryError: the text is damaged or has no data, or the image has more than `max_bytes`.
    """
    body, is_base64, what = text, True, "base64"
    if text[:5].lower() == "data:":
        head = _DATA.match(text, 0, _MAX_HEAD)
        if head is None:
            raise EntryError("a data: URI without a comma before its data")
        body, what = text[head.end() :], "a data: URI"
        is_base64 = head[0][:-1].lower().endswith(";base64")
    data = _from_base64(body, what) if is_base64 else unquote_to_bytes(body)
    if not data:
        raise EntryError(f"no image: {what} without data")
    if len(data) > max_bytes:
        raise EntryError(too_large(len(data), max_bytes))
    return data


def _from_base64(body: str, what: str) -> bytes:
    body = _WHITESPACE.sub("", unquote_to_bytes(body).decode("latin-1") if "%" in body else body)
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EntryError(f"{what} that is damaged or cut off: {error}") from None
