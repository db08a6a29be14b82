"""Find the columns of a table that hold the images (or their paths or URLs) and the keys."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from cluster.errors import SourceError
from cluster.records.names import printable

BYTES_COLUMNS = ("image", "img", "jpg", "png", "jpeg", "bytes", "content", "data")
URI_COLUMNS = ("uri", "url", "path", "image_path", "file", "image")
KEY_COLUMNS = ("key", "__key__", "id", "image_id", "path", "filename", "name")

MAX_SHOWN = 20
"""Columns that a message lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns that the user names; None finds a column by the usual names.

    Attributes:
        image: the column with the bytes of the images (binary, or a struct of `bytes` and `path` as Hugging Face
            `datasets` writes it), or with their paths or URLs (string).
        key: the column that names the images (string or integer).
    """

    image: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns that are read from a table.

    Attributes:
        image: column of the images.
        holds: "bytes", "struct" (of `bytes` and `path`) or "uri".
        key: column of the keys; None names images by `path` of the struct, or by file and row.
    """

    image: str
    holds: str
    key: str | None

    @property
    def columns(self) -> list[str]:
        """The columns to read, each once."""
        return list(dict.fromkeys(name for name in (self.image, self.key) if name is not None))


def find_layout(schema: pa.Schema, columns: Columns, where: str) -> Layout:
    """Decide which columns to read.

    Args:
        schema: of the table.
        columns: named by the user.
        where: name of the table in error messages.

    Raises:
        SourceError: no column fits, or the named one does not.
    """
    types = {field.name: _storage(field.type) for field in schema}
    for option, name in (("image", columns.image), ("key", columns.key)):
        if name is not None and name not in types:
            raise SourceError(f"{where} has no column {name!r} ({option} column). It has: {_listed(types)}.")
    image = columns.image or _first(types, BYTES_COLUMNS, _is_image) or _first(types, URI_COLUMNS, _is_text)
    if image is None:
        raise SourceError(
            f"{where} has no column of images: expected bytes in one of {', '.join(BYTES_COLUMNS)}, or paths or URLs "
            f"in one of {', '.join(URI_COLUMNS)}. It has: {_listed(types)}. Name the image column."
        )
    if not (_is_image(types[image]) or _is_text(types[image])):
        raise SourceError(
            f"column {image!r} of {where} is {types[image]}: expected binary, a struct of bytes, or string"
        )
    if columns.key is not None and not _is_key(types[columns.key]):
        raise SourceError(f"column {columns.key!r} of {where} is {types[columns.key]}: expected string or integer")
    holds = "uri" if _is_text(types[image]) else "struct" if pa.types.is_struct(types[image]) else "bytes"
    layout = Layout(image, holds, columns.key or _first(types, KEY_COLUMNS, _is_key))
    if twice := [name for name in layout.columns if schema.names.count(name) > 1]:
        raise SourceError(f"{where} has several columns {twice[0]!r}: expected one")
    return layout


def _first(types: dict[str, pa.DataType], names: tuple[str, ...], fits: object) -> str | None:
    return next((name for name in names if name in types and fits(types[name])), None)  # type: ignore[operator]


def _storage(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values, without dictionary encoding or extension."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_binary(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def _is_text(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        fields = [field for field in kind if field.name == "bytes"]
        return len(fields) == 1 and _is_binary(fields[0].type)
    return _is_binary(kind)


def _is_key(kind: pa.DataType) -> bool:
    return _is_text(kind) or bool(pa.types.is_integer(kind))


def _listed(types: dict[str, pa.DataType]) -> str:
    shown = ", ".join(f"{printable(name)[:40]} ({str(kind)[:40]})" for name, kind in islice(types.items(), MAX_SHOWN))
    return shown + f" and {len(types) - MAX_SHOWN} more" * (len(types) > MAX_SHOWN)
