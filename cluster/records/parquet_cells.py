"""Read single cells of a Parquet table, checking size and type before copying: their content is not trusted."""

from __future__ import annotations

import pyarrow as pa

from cluster.records.base import EntryError
from cluster.records.inline_images import is_inline, max_characters
from cluster.records.reading import too_large

MAX_TEXT_BYTES = 1 << 16
"""Longer keys, paths and URLs are an error."""


def get_bytes(cell: pa.Scalar | None, max_bytes: int) -> bytes | None:
    """Return the bytes of a cell; None if it is null.

    Raises:
        EntryError: more than `max_bytes`.
    """
    buffer = _buffer(cell)
    if buffer is not None and buffer.size > max_bytes:
        raise EntryError(too_large(buffer.size, max_bytes))
    return None if buffer is None else buffer.to_pybytes()


def get_reference(cell: pa.Scalar | None, max_bytes: int) -> str | None:
    """Return a path, a URL, or an image of at most so many bytes as text; None if it is null.

    Raises:
        EntryError: see `get_text`; or it is an image and too large.
    """
    text = get_text(cell, "path", max(MAX_TEXT_BYTES, max_characters(max_bytes)))
    if text is not None and len(text) > MAX_TEXT_BYTES and not is_inline(text):
        raise EntryError(_too_long("path", len(text), MAX_TEXT_BYTES))
    return text


def get_text(cell: pa.Scalar | None, what: str, max_text_bytes: int = MAX_TEXT_BYTES) -> str | None:
    """Return a text, or a number as text; None if it is null.

    Args:
        cell: of a type for keys, or of any type in the `path` of a struct.
        what: name of the cell in error messages.
        max_text_bytes: a longer text is an error.

    Raises:
        EntryError: not UTF-8, too long, or something else.
    """
    cell = _stored(cell)
    if cell is None or not cell.is_valid:
        return None
    if pa.types.is_integer(cell.type):
        return str(cell.as_py())
    buffer = _buffer(cell)
    if buffer is None:
        raise EntryError(f"the {what} is {cell.type}, not text")
    if buffer.size > max_text_bytes:
        raise EntryError(_too_long(what, buffer.size, max_text_bytes))
    try:
        return str(buffer.to_pybytes(), "utf-8")
    except UnicodeDecodeError:
        raise EntryError(f"the {what} is not UTF-8") from None


def get_field(cell: pa.Scalar, name: str) -> pa.Scalar | None:
    """Return a field of a struct; None if the struct or the field is missing."""
    cell = _stored(cell)
    return cell[name] if cell is not None and cell.is_valid and name in cell else None


def _too_long(what: str, size: int, limit: int) -> str:
    return f"the {what} is too long: {size} bytes, at most {limit} are read"


def _buffer(cell: pa.Scalar | None) -> pa.Buffer | None:
    cell = _stored(cell)
    return cell.as_buffer() if cell is not None and cell.is_valid and hasattr(cell, "as_buffer") else None


def _stored(cell: pa.Scalar | None) -> pa.Scalar | None:
    """Return the value itself, without dictionary encoding or extension."""
    while isinstance(cell, pa.DictionaryScalar | pa.ExtensionScalar):
        cell = cell.value
    return cell
