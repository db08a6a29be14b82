"""The rows of a list of images, read one by one: lines of paths and URLs (.txt), CSV or TSV, JSON Lines.

Text is UTF-8. Other bytes become surrogates, as in Python's file names, so that paths with such bytes can be opened.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from cluster.records.base import EntryError

MAX_LINE_BYTES = 1 << 16
"""Longer lines are an error; images as text can be stored in a Parquet table."""

PATH = "path"
"""The column of lists that have none."""

_OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class ListRow:
    """A row of a list.

    Attributes:
        line: number of its last line, from 1.
        cells: its values by column.
        problem: why it has no values; None if it has.
    """

    line: int
    cells: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None


def read_rows(stream: BinaryIO, name: str) -> Iterator[ListRow]:
    """Read a list from its beginning. Blank lines are no rows.

    Args:
        stream: the file.
        name: of the file; its suffix decides.

    Raises:
        EntryError: the rest cannot be read.
    """
    encoding = _OTHER_ENCODINGS.get(stream.read(2))
    stream.seek(0)
    if encoding is not None:
        raise EntryError(f"encoded in {encoding}; save it as UTF-8")
    yield from _PARSERS[name.lower().rpartition(".")[2]](_lines(stream))


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: str
    is_too_long: bool = False

    @property
    def problem(self) -> str:
        return f"line {self.number} is longer than {MAX_LINE_BYTES} bytes"


def _lines(stream: BinaryIO) -> Iterator[_Line]:
    number = 0
    while data := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        is_too_long = len(data) > MAX_LINE_BYTES and not data.endswith(b"\n")
        while is_too_long and not data.endswith(b"\n") and (data := stream.readline(MAX_LINE_BYTES)):
            pass
        text = "" if is_too_long else data.decode("utf-8", "surrogateescape")
        yield _Line(number, text.removeprefix(_BYTE_ORDER_MARK) if number == 1 else text, is_too_long)


def _plain_rows(lines: Iterator[_Line]) -> Iterator[ListRow]:
    for line in lines:
        if line.is_too_long:
            yield ListRow(line.number, problem=line.problem)
        elif (text := line.text.rstrip("\r\n")) and not text.isspace():
            yield ListRow(line.number, {PATH: text})


def _json_rows(lines: Iterator[_Line]) -> Iterator[ListRow]:
    for line in lines:
        if line.is_too_long:
            yield ListRow(line.number, problem=line.problem)
        elif text := line.text.strip():
            yield _json_row(line.number, text)


def _json_row(number: int, text: str) -> ListRow:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return ListRow(number, problem=f"line {number} is not JSON: {str(error)[:100]}")
    if isinstance(value, str):
        value = {PATH: value}
    if not isinstance(value, dict):
        return ListRow(number, problem=f"line {number} is no JSON object and no string")
    return ListRow(number, {key: str(cell) for key, cell in value.items() if _is_text(cell)})


def _is_text(cell: object) -> bool:
    return (isinstance(cell, str) and cell != "") or (isinstance(cell, int) and not isinstance(cell, bool))


def _comma_rows(lines: Iterator[_Line]) -> Iterator[ListRow]:
    return _separated_rows(lines, ",")


def _tab_rows(lines: Iterator[_Line]) -> Iterator[ListRow]:
    return _separated_rows(lines, "\t")


def _separated_rows(lines: Iterator[_Line], delimiter: str) -> Iterator[ListRow]:
    texts, header = _Texts(lines), list[str]()
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            texts.characters = 0
            if header and cells:
                yield _separated_row(reader.line_num, header, cells)
            elif cells:
                header = _header(cells)
    except csv.Error as error:
        raise EntryError(f"line {reader.line_num} is not CSV: {error}") from None


def _header(cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise EntryError(f"several columns are called {twice[0][:40]!r}; rename all but one")
    return header


def _separated_row(number: int, header: list[str], cells: list[str]) -> ListRow:
    if len(cells) > len(header):
        problem = f"line {number} has {len(cells)} values, the header {len(header)}: quote values that hold separators"
        return ListRow(number, problem=problem)
    return ListRow(number, dict(zip(header, cells, strict=False)))


class _Texts:
    """The texts of lines. Raises EntryError for a line that is too long, and for a row of too many lines."""

    def __init__(self, lines: Iterator[_Line]) -> None:
        self._lines, self.characters = lines, 0

    def __iter__(self) -> _Texts:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.characters += len(line.text)
        if line.is_too_long:
            raise EntryError(line.problem)
        if self.characters > 2 * MAX_LINE_BYTES:
            raise EntryError(f"the row that ends at line {line.number} or later is too long: a quote may be missing")
        return line.text


_PARSERS: dict[str, Callable[[Iterator[_Line]], Iterator[ListRow]]] = {
    "txt": _plain_rows,
    "csv": _comma_rows,
    "tsv": _tab_rows,
    "jsonl": _json_rows,
    "ndjson": _json_rows,
}
LIST_SUFFIXES = tuple(f".{name}" for name in _PARSERS)
