"""Tables of examples: csv, parquet or jsonl with the columns image, label[, name, description]."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from fewshot.data.example import Example, is_path
from fewshot.data.table_rows import Row, Table, read_csv, read_jsonl, read_parquet
from fewshot.errors import DataError, UnknownNameError, raise_if_any

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "path", "uri", "url", "file", "filename", "file_name", "image_path"),
    "label": ("label", "class", "category"),
    "name": ("name", "class_name", "classname"),
    "description": ("description",),
}
"""Accepted names of the columns, in lower case; if a table has several of them, the first one is used."""

REQUIRED = ("image", "label")

READERS: Mapping[str, Callable[[bytes, str], Table]] = {
    "csv": read_csv,
    "jsonl": read_jsonl,
    "parquet": partial(read_parquet, columns={alias for aliases in COLUMNS.values() for alias in aliases}),
}


def parse_examples(
    data: bytes,
    *,
    format: Literal["csv", "parquet", "jsonl"],  # noqa: A002
    name: str,
) -> list[Example]:
    """Parse a table of labelled images.

    Columns are found by any name in `COLUMNS`, in any case and order; others are ignored. Labels are text or
    integers. A row with an empty image adds its class to the label space without an example. An image that is repeated
    with the same label is not a second example: of the repeated row, only class, name and description are used.

    Args:
        data: the whole file; text is UTF-8, with or without a byte order mark.
        format: the format of the file.
        name: the name of the table in errors, e.g. its file name.

    Returns:
        The examples in the order of the table.

    Raises:
        DataError: a required column is missing, the table is empty or unreadable, or cells are invalid: up to 20
            problems are listed, each with its line or row. Two labels of an image, and two names or descriptions of a
            class, are problems, too.
        UnknownNameError: the format is none of the three.
    """
    if format not in READERS:
        raise UnknownNameError("table format", format, READERS)
    table = READERS[format](data, name)
    if not table.rows:
        raise DataError(f"{name} has no rows; expected at least one example")
    chosen = _choose_columns(table.columns, name)
    found: list[tuple[str, Example]] = []
    problems: list[str] = []
    for row in table.rows:
        try:
            found.append((row.place, _parse_example(row, chosen)))
        except DataError as error:
            problems.append(f"{row.place}: {error}")
    raise_if_any(name, [*problems, *_contradictions(found)])
    return _without_repeats(example for _, example in found)


def _choose_columns(columns: tuple[str, ...], name: str) -> dict[str, str]:
    """Return the column of the table for each field; optional fields may be absent."""
    lowered = [column.strip().lower() for column in columns]
    chosen, problems = {}, []
    for field, aliases in COLUMNS.items():
        alias = next((alias for alias in aliases if alias in lowered), None)
        if alias is not None:
            chosen[field] = columns[lowered.index(alias)]
            if lowered.count(alias) > 1:
                problems.append(f"{lowered.count(alias)} columns {alias!r}, expected one; remove the others")
        elif field in REQUIRED:
            problems.append(
                f"no column for the {field}: expected one of {', '.join(aliases)}; found {_shown_columns(columns)}"
            )
    raise_if_any(name, problems)
    return chosen


def _shown_columns(columns: tuple[str, ...]) -> str:
    shown = ", ".join(repr(column[:40]) for column in columns[:20])
    return f"[{shown}]" + f" and {len(columns) - 20} more" * (len(columns) > 20)


def _parse_example(row: Row, chosen: Mapping[str, str]) -> Example:
    cells = {field: row.cells.get(column) for field, column in chosen.items()}
    image, label = cells["image"], _text(cells["label"], "label")
    if not label:
        raise DataError("the label is empty")
    if image is not None and not isinstance(image, str):
        raise DataError(f"the image must be a path or a URL, got {type(image).__name__}")
    if image is not None and not is_path(image):
        raise DataError(f"the image must be a path or a URL, got {reprlib.repr(image)}")
    return Example(
        image=image if image and image.strip() else "",
        label=label,
        name=_text(cells.get("name"), "name"),
        description=_text(cells.get("description"), "description"),
    )


def _text(cell: Any, field: str) -> str | None:
    """Return text or an integer as stripped text; None for an absent or blank cell."""
    if cell is None:
        return None
    if isinstance(cell, bool) or not isinstance(cell, str | int):
        raise DataError(f"the {field} must be text or an integer, got {reprlib.repr(cell)}")
    return str(cell).strip() or None


def _contradictions(found: Iterable[tuple[str, Example]]) -> list[str]:
    """Return a problem for each row that contradicts an earlier one."""
    first: dict[tuple[str, str], tuple[str, str]] = {}
    problems = []
    for place, example in found:
        claims = (
            ("label of image", example.image, example.label),
            ("name of class", example.label, example.name),
            ("description of class", example.label, example.description),
        )
        for what, subject, value in claims:
            if not subject or value is None:
                continue
            known, where = first.setdefault((what, subject), (value, place))
            if known != value:
                values = f"{reprlib.repr(value)}, but {reprlib.repr(known)} in {where}"
                problems.append(f"{place}: the {what} {subject!r} is {values}")
    return problems


def _without_repeats(examples: Iterable[Example]) -> list[Example]:
    seen: set[str] = set()
    unique = []
    for example in examples:
        unique.append(replace(example, image="") if example.image in seen else example)
        seen.add(example.image)
    return unique
