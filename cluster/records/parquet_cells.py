"""Single cells of a Parquet table, looked at before they are copied: what they hold is not trusted."""

from __future__ import annotations

import pyarrow as pa

from cluster.records.base import EntryError
from cluster.records.reading import too_large

MAX_TEXT_BYTES = 1 << 16
"""Longer keys, paths and URLs are an error."""


def binary(cell: pa.Scalar | None, max_bytes: int) -> bytes | None:
    """The bytes of a cell, None where it is null.

    Raises:
        EntryError: more than `max_bytes`.
    """
    buffer = _buffer(cell)
    if buffer is not None and buffer.size > max_bytes:
        raise EntryError(too_large(buffer.size, max_bytes))
    return None if buffer is None else buffer.to_pybytes()


def text(cell: pa.Scalar | None, what: str) -> str | None:
    """A text or a number as text, None where it is null.

    Args:
        cell: of a type for keys, or of any type in the `path` of a struct.
        what: how to call it in errors.

    Raises:
        EntryError: not UTF-8, longer than `MAX_TEXT_BYTES`, or something else.
    """
    cell = _stored(cell)
    if cell is None or not cell.is_valid:
        return None
    if pa.types.is_integer(cell.type):
        return str(cell.as_py())
    buffer = _buffer(cell)
    if buffer is None:
        raise EntryError(f"the {what} is {cell.type}, no text")
    if buffer.size > MAX_TEXT_BYTES:
        raise EntryError(f"the {what} is too long: {buffer.size} bytes, at most {MAX_TEXT_BYTES} are read")
    try:
        return str(buffer.to_pybytes(), "utf-8")
    except UnicodeDecodeError:
        raise EntryError(f"the {what} is not UTF-8") from None


def part(cell: pa.Scalar, name: str) -> pa.Scalar | None:
    """A field of a struct, None where there is none."""
    cell = _stored(cell)
    return cell[name] if cell is not None and cell.is_valid and name in cell else None


def _buffer(cell: pa.Scalar | None) -> pa.Buffer | None:
    cell = _stored(cell)
    return cell.as_buffer() if cell is not None and cell.is_valid and hasattr(cell, "as_buffer") else None


def _stored(cell: pa.Scalar | None) -> pa.Scalar | None:
    """The value itself, without dictionary encoding or extension."""
    while isinstance(cell, pa.DictionaryScalar | pa.ExtensionScalar):
        cell = cell.value
    return cell
