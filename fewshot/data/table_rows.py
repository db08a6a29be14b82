"""Bytes of a table to rows of cells: csv, jsonl, parquet. What the cells mean is `fewshot.data.tables`' business."""

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
MAX_ROWS = 10_000_000
"""Of a Parquet file, which can repeat a row at the cost of a bit."""
MAX_TEXT = 1 << 30
"""Bytes of all texts of a Parquet file together."""
MAX_CELL = csv.field_size_limit()
"""Bytes of a text in a Parquet file: as in a csv (128 KiB)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row and where to look for it.

    Attributes:
        place: "line 7" of a text file, "row 7" of a parquet file; both count from 1.
        cells: column name to whatever the format holds.
    """

    place: str
    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """All columns by name, also those that were not read, and the rows that have any content."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_csv(data: bytes, name: str) -> Table:
    """A csv file with a header, separated by commas, semicolons or tabs, whichever the header has most of.

    Raises:
        DataError: not UTF-8, broken quoting, or rows with more cells than the header.
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
    """One JSON object a line; blank lines are left out.

    Raises:
        DataError: not UTF-8, or lines that are not a JSON object.
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
    """A parquet file. Columns whose lower-case name is not in `columns` are never decoded.

    Raises:
        DataError: not a parquet file, or a damaged one.
    """
    try:
        present, table = _decoded(data, columns)
        rows = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError(f"{name} cannot be read as parquet: {error}") from error
    return Table(present, tuple(Row(f"row {number}", cells) for number, cells in enumerate(rows, start=1)))


def _decoded(data: bytes, columns: Collection[str]) -> tuple[tuple[str, ...], pa.Table]:
    """All columns by name, and the wanted ones, each value held once however often it is repeated."""
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
    """Bytes that the texts of a column have together, repeated ones counted as often as they stand there.

    Raises:
        ValueError: one of them is longer than what a csv may hold.
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
    """Every row gets a cell for each column, be it empty: a wide header would make a short file large."""
    many = len(columns) > MAX_COLUMNS
    return [f"line 1: {len(columns)} columns, at most {MAX_COLUMNS} are read"] if many else []


def _utf8(data: bytes, name: str) -> str:
    """Decode, with or without a byte order mark; a refusal names every line that is not UTF-8."""
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
