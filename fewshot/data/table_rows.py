"""Parsing of csv, jsonl and parquet files to rows of cells; `fewshot.data.tables` interprets the cells."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fewshot.errors import DataError, raise_if_any

MAX_COLUMNS = 1_000
"""Maximum number of columns of a csv file."""
MAX_ROWS = 10_000_000
"""Maximum number of rows of a Parquet file, which can repeat a row at the cost of a bit."""
MAX_TEXT = 1 << 30
"""Maximum number of bytes of all texts of a Parquet file together."""
MAX_CELL = csv.field_size_limit()
"""Maximum number of bytes of a text in a Parquet file, as in a csv file (128 KiB)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        place: "line 7" in a text file, "row 7" in a parquet file; both count from 1.
        cells: column name to a value of any type of the format.
    """

    place: str
    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A table, as far as it was read.

    Attributes:
        columns: the names of all columns, also of those that were not read.
        rows: the rows that are not empty.
        images: columns of a Parquet file that hold the images themselves: binary, or a struct with the field `bytes`
            (as Hugging Face `datasets` writes it). Their cells are not read.
        class_names: by column, the names of its integer labels, from the features that `datasets` stores.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    images: frozenset[str] = frozenset()
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_csv(data: bytes, name: str) -> Table:
    """Parse a csv file with a header, separated by the most frequent of comma, semicolon and tab in the header.

    A first line "sep=;", as some spreadsheets write it, is skipped.

    Raises:
        DataError: the file is not UTF-8, its quoting is broken, or rows have more cells than the header.
    """
    text = re.sub(r"\A\"?sep=.\"?\r?\n", "", _utf8(data, name))
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    rows, problems = [], []
    try:
        raise_if_any(name, _too_many(reader.fieldnames or ()))
        for cells in reader:
            place = f"line {reader.line_num}"
            if None in cells:
                problems.append(f"{place}: more cells than the header; quote cells that contain {separator!r}")
            elif any(cells.values()):
                rows.append(Row(place, cells))
    except csv.Error as error:
        problems.append(f"the row that begins in line {reader.line_num + 1}: {error}")
    raise_if_any(name, problems)
    return Table(tuple(reader.fieldnames or ()), tuple(rows))


def read_jsonl(data: bytes, name: str) -> Table:
    """Parse one JSON object for each line; blank lines are skipped.

    Raises:
        DataError: the file is not UTF-8, or lines are not JSON objects.
    """
    rows, problems = [], []
    for number, line in enumerate(_utf8(data, name).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.append(f"line {number}: not JSON: {error}")
            continue
        if isinstance(cells, dict):
            rows.append(Row(f"line {number}", cells))
        else:
            problems.append(f"line {number}: expected a JSON object, got {type(cells).__name__}")
    raise_if_any(name, problems)
    return Table(tuple(dict.fromkeys(key for row in rows for key in row.cells)), tuple(rows))


def read_parquet(
    data: bytes | BinaryIO, name: str, *, columns: Collection[str], image_columns: Collection[str] = ()
) -> Table:
    """Parse a parquet file. Columns whose lower-case name is not in `columns` are not decoded, nor are images.

    Args:
        data: the whole file, or an open file of which only these columns are read.
        name: the name of the file in errors.
        columns: of texts and integers, in lower case.
        image_columns: columns that may hold images, in lower case.

    Raises:
        DataError: the file is not a parquet file, or is damaged.
    """
    try:
        return _decoded(io.BytesIO(data) if isinstance(data, bytes) else data, columns, image_columns)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError(f"{name} cannot be read as parquet: {error}") from error


def _decoded(file: BinaryIO, columns: Collection[str], image_columns: Collection[str]) -> Table:
    """Return the wanted columns, with one copy of repeated values."""
    footer = pq.ParquetFile(file)
    schema, count = footer.schema_arrow, footer.metadata.num_rows
    if count > MAX_ROWS:
        raise ValueError(f"{count} rows, at most {MAX_ROWS} are read")
    images = frozenset(item.name for item in schema if _is_in(image_columns, item) and _holds_images(item.type))
    wanted = [item for item in schema if _is_in(columns, item) and item.name not in images]
    if nested := [item.name for item in wanted if pa.types.is_nested(item.type)]:
        raise ValueError(f"column {nested[0]!r} is {str(schema.field(nested[0]).type)[:80]}, expected text or integers")
    texts = [item.name for item in wanted if pa.types.is_string(item.type) or pa.types.is_large_string(item.type)]
    table = pq.ParquetFile(file, read_dictionary=texts).read(columns=[item.name for item in wanted], use_threads=False)
    if (total := sum(map(_text_bytes, table.columns))) > MAX_TEXT:
        raise ValueError(f"{total} bytes of text, at most {MAX_TEXT} are read")
    cells = table.to_pylist() if wanted else [{} for _ in range(count)]
    rows = tuple(Row(f"row {number}", row) for number, row in enumerate(cells, start=1))
    return Table(tuple(schema.names), rows, images, _class_names(schema.metadata or {}))


def _is_in(columns: Collection[str], item: pa.Field) -> bool:
    return item.name.strip().lower() in columns


def _holds_images(kind: pa.DataType) -> bool:
    """Return whether a column holds images: binary, or a struct with one field `bytes` that is."""
    if isinstance(kind, pa.BaseExtensionType):
        return _holds_images(kind.storage_type)
    if pa.types.is_struct(kind):
        fields = [item for item in kind if item.name == "bytes"]
        return len(fields) == 1 and _is_binary(fields[0].type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    tests: tuple[Callable[[pa.DataType], bool], ...] = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
    )
    return any(test(kind) for test in tests)


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Return the names of the features `ClassLabel` by column; none where the metadata are not those of `datasets`."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"].items()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    labels = {name: item.get("names") for name, item in features if isinstance(item, dict) and _is_class_label(item)}
    return {
        name: tuple(names)
        for name, names in labels.items()
        if isinstance(names, list) and all(isinstance(each, str) for each in names)
    }


def _is_class_label(feature: Mapping[str, Any]) -> bool:
    return feature.get("_type") == "ClassLabel"


def _text_bytes(column: pa.ChunkedArray) -> int:
    """Return the number of bytes of all texts of a column, with repeated texts counted each time.

    Raises:
        ValueError: a text is longer than `MAX_CELL`.
    """
    total = 0
    for chunk in column.chunks:
        texts = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
        if not (pa.types.is_string(texts.type) or pa.types.is_binary(texts.type)) or not len(texts):
            continue
        lengths = pc.binary_length(texts)
        if (longest := pc.max(lengths).as_py() or 0) > MAX_CELL:
            raise ValueError(f"a cell of {longest} bytes, at most {MAX_CELL} are read")
        total += pc.sum(lengths.take(chunk.indices) if texts is not chunk else lengths).as_py() or 0
    return total


def _too_many(columns: Collection[str]) -> list[str]:
    """Return a problem if there are too many columns: every row has a cell for each, so wide tables grow large."""
    many = len(columns) > MAX_COLUMNS
    return [f"line 1: {len(columns)} columns, at most {MAX_COLUMNS} are read"] if many else []


def _utf8(data: bytes, name: str) -> str:
    """Decode text, with or without a byte order mark; the error names every line that is not UTF-8."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{name} is UTF-16; save the file as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise_if_any(name, list(_undecodable_lines(data)))
        raise


def _undecodable_lines(data: bytes) -> Iterator[str]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            found = f"0x{line[error.start]:02x}"
            yield f"line {number}: byte {error.start + 1} ({found}) is not UTF-8; save the file as UTF-8"
