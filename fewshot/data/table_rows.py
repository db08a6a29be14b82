"""Parsing of csv, jsonl and parquet files to rows of cells; `fewshot.data.tables` interprets the cells."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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
    """The names of all columns, also of those that were not read, and the rows that are not empty."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_csv(data: bytes, name: str) -> Table:
    """Parse a csv file with a header, separated by the most frequent of comma, semicolon and tab in the header.

    Raises:
        DataError: the file is not UTF-8, its quoting is broken, or rows have more cells than the header.
    """
    text = _utf8(data, name)
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


def read_parquet(data: bytes, name: str, *, columns: Collection[str]) -> Table:
    """Parse a parquet file. Columns whose lower-case name is not in `columns` are not decoded.

    Raises:
        DataError: the file is not a parquet file, or is damaged.
    """
    try:
        present, table = _decoded(data, columns)
        rows = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError(f"{name} cannot be read as parquet: {error}") from error
    return Table(present, tuple(Row(f"row {number}", cells) for number, cells in enumerate(rows, start=1)))


def _decoded(data: bytes, columns: Collection[str]) -> tuple[tuple[str, ...], pa.Table]:
    """Return the names of all columns and a table of the wanted ones, with one copy of repeated values."""
    schema = pq.ParquetFile(pa.BufferReader(data)).schema_arrow
    wanted = [field for field in schema if field.name.strip().lower() in columns]
    texts = [field.name for field in wanted if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts)
    if file.metadata.num_rows > MAX_ROWS:
        raise ValueError(f"{file.metadata.num_rows} rows, at most {MAX_ROWS} are read")
    if nested := [field.name for field in wanted if pa.types.is_nested(field.type)]:
        raise ValueError(f"column {nested[0]!r} is {str(schema.field(nested[0]).type)[:80]}, expected text or integers")
    table = file.read(columns=[field.name for field in wanted], use_threads=False)
    if (total := sum(map(_text_bytes, table.columns))) > MAX_TEXT:
        raise ValueError(f"{total} bytes of text, at most {MAX_TEXT} are read")
    return tuple(schema.names), table


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
