"""Find the columns of a table that hold the images (or their paths or URLs) and the keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import pyarrow as pa

from cluster.errors import SourceError
from cluster.records.names import printable

BYTES_COLUMNS = (
    "image", "img", "jpg", "png", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "jxl",
    "bytes", "content", "data", "image_bytes",
)  # fmt: skip
URI_COLUMNS = (
    "uri", "url", "path", "image_path", "file", "image", "img",
    "image_url", "image_uri", "img_path", "file_path", "filepath",
)  # fmt: skip
LIST_COLUMNS = (*URI_COLUMNS, "file_name", "filename")
"""Of lists. A Parquet table of these describes images beside it, as in Hugging Face's folders of images."""
KEY_COLUMNS = ("key", "__key__", "id", "image_id", "path", "filename", "name")
"""Usual names, the preferred first."""

Fits: TypeAlias = Callable[[pa.DataType], bool]

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
        holds: "bytes", "struct" (of `bytes` and `path`), "unnamed struct" (the same, with paths that are not
            unique) or "uri".
        key: column of the keys; None names images by `path` of the struct, or by file and row.
    """

    image: str
    holds: str
    key: str | None

    @property
    def is_struct(self) -> bool:
        """Whether images are structs of `bytes` and `path`."""
        return self.holds in ("struct", "unnamed struct")

    @property
    def key_field(self) -> str | None:
        """Column, or field of a column, that the keys are from; None if rows are numbered."""
        return self.key or (f"{self.image}.path" if self.holds == "struct" else None)

    @property
    def columns(self) -> list[str]:
        """The columns to read, each once."""
        return list(dict.fromkeys(name for name in (self.image, self.key) if name is not None))


def find_layout(schema: pa.Schema, columns: Columns, where: str) -> Layout:
    """Decide which columns to read, by their names and types.

    Args:
        schema: of the table.
        columns: named by the user.
        where: name of the table in error messages.

    Raises:
        SourceError: no column fits, or the named one does not.
    """
    return find_layouts(schema, columns, where)[0]


def find_layouts(
    schema: pa.Schema, columns: Columns, where: str, uri_columns: tuple[str, ...] = URI_COLUMNS
) -> list[Layout]:
    """Return the possible layouts, the preferred first. They have the same images and different keys, the last none.

    There is only one if the user names the column of the keys, or if the images are named by their own paths.

    Args:
        schema: see `find_layout`.
        columns: see `find_layout`.
        where: see `find_layout`.
        uri_columns: usual names of columns of paths or URLs.

    Raises:
        SourceError: see `find_layout`.
    """
    types = {field.name: _storage(field.type) for field in schema}
    for option, name in (("image", columns.image), ("key", columns.key)):
        if name is not None and name not in types:
            raise SourceError(f"{where} has no column {name!r} ({option} column). It has: {_listed(types)}.")
    image = columns.image or _find_image(types, uri_columns)
    if image is None:
        raise SourceError(
            f"{where} has no column of images: expected bytes in one of {', '.join(BYTES_COLUMNS)}, or paths or URLs "
            f"in one of {', '.join(uri_columns)}. It has: {_listed(types)}. Name the image column."
        )
    if not (_is_image(types[image]) or _is_text(types[image])):
        raise SourceError(
            f"column {image!r} of {where} is {types[image]}: expected binary, a struct of bytes, or string"
        )
    if columns.key is not None and not _is_key(types[columns.key]):
        raise SourceError(f"column {columns.key!r} of {where} is {types[columns.key]}: expected string or integer")
    layouts = _layouts(types, image, columns.key)
    if twice := [name for name in layouts[0].columns if schema.names.count(name) > 1]:
        raise SourceError(f"{where} has several columns {twice[0]!r}: expected one; rename the others")
    return [item for item in layouts if item.key is None or schema.names.count(item.key) == 1]


def _find_image(types: dict[str, pa.DataType], uri_columns: tuple[str, ...]) -> str | None:
    """Find bytes under a usual name, or the only struct of bytes and path, or paths under a usual name."""
    structs = [name for name, kind in types.items() if _is_image(kind) and _has_path(kind)]
    found = [
        *_in_any_case(types, BYTES_COLUMNS, _is_image),
        *(structs if len(structs) == 1 else ()),
        *_in_any_case(types, uri_columns, _is_text),
    ]
    return next(iter(found), None)


def _in_any_case(types: dict[str, pa.DataType], names: tuple[str, ...], fits: Fits) -> list[str]:
    """Return the columns of these names whose types fit; those written in another case last."""
    lower = {name.lower(): name for name in reversed(types)}
    others = [lower[name] for name in names if name in lower and fits(types[lower[name]])]
    return [*_usual(types, names, fits), *others]


def _layouts(types: dict[str, pa.DataType], image: str, key: str | None) -> list[Layout]:
    kind = types[image]
    holds = "uri" if _is_text(kind) else "struct" if pa.types.is_struct(kind) else "bytes"
    if key is not None:
        return [Layout(image, holds, key)]
    keys = _usual(types, KEY_COLUMNS, _is_key)
    if image in keys:  # Paths name their images, however often one occurs.
        return [Layout(image, holds, name) for name in keys[: keys.index(image) + 1]]
    unnamed = [Layout(image, "unnamed struct", None)] if holds == "struct" else []
    return [*(Layout(image, holds, name) for name in keys), Layout(image, holds, None), *unnamed]


def _usual(types: dict[str, pa.DataType], names: tuple[str, ...], fits: Fits) -> list[str]:
    """Return the columns of these names whose types fit, in the order of the names."""
    return [name for name in names if name in types and fits(types[name])]


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


def _has_path(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind)) and any(field.name == "path" for field in kind)


def _is_key(kind: pa.DataType) -> bool:
    return _is_text(kind) or bool(pa.types.is_integer(kind))


def _listed(types: dict[str, pa.DataType]) -> str:
    shown = ", ".join(f"{printable(name)[:40]} ({str(kind)[:40]})" for name, kind in islice(types.items(), MAX_SHOWN))
    return shown + f" and {len(types) - MAX_SHOWN} more" * (len(types) > MAX_SHOWN)
