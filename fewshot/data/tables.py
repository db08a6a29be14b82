"""Tables of examples: csv, parquet or jsonl with the columns image, label[, name, description, split]."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, BinaryIO, Literal

from fewshot.data.example import Example, is_path
from fewshot.data.split_columns import (
    FLAG_COLUMNS,
    NAME_COLUMNS,
    PART_COLUMNS,
    find_flags,
    flagged_split,
    holds_splits,
    notices_of_parts,
)
from fewshot.data.split_names import NO_SPLIT, SplitChoice, select_split
from fewshot.data.table_rows import Row, Table, read_csv, read_jsonl, read_parquet
from fewshot.errors import DataError, MissingColumnError, UnknownNameError, raise_if_any

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "path", "uri", "url", "file", "filename", "file_name", "image_path"),
    "label": ("label", "class", "category"),
    "name": ("name", "class_name", "classname"),
    "description": ("description",),
    "split": ("split",),
}
"""Accepted names of the columns, in lower case; if a table has several of them, the first one is used."""
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "content", "data")
"""Accepted names of columns with the images themselves; they are used before columns of paths."""
REQUIRED = ("image", "label")
SETTINGS = {"image": "image_column", "label": "label_column"}
"""How messages call the setting that names a column."""

TableFormat = Literal["csv", "parquet", "jsonl"]
Reader = Callable[..., Table]
READERS: Mapping[str, Reader] = {"csv": read_csv, "jsonl": read_jsonl, "parquet": read_parquet}


@dataclass(frozen=True, slots=True)
class ExampleRows:
    """The examples of one table, before rows that repeat or contradict each other were looked for.

    Attributes:
        rows: place of the row ("line 7", "row 7") and the example, in the order of the table.
        images: column that holds the images themselves; None if rows refer to images by paths or URLs.
        has_numbers: whether labels are integers without names.
        notices: sentences about columns that may matter and are not used.
    """

    rows: tuple[tuple[str, Example], ...]
    images: str | None = None
    has_numbers: bool = False
    notices: tuple[str, ...] = ()


def parse_examples(
    data: bytes,
    *,
    format: TableFormat,  # noqa: A002
    name: str,
) -> list[Example]:
    """Parse a table of labelled images.

    Columns are found by any name in `COLUMNS`, in any case and order; others are ignored. Labels are text or
    integers; integers have the names that `datasets` stored, if any. A row with an empty image adds its class to the
    label space without an example. An image that is repeated with the same label is not a second example: of the
    repeated row, only class, name and description are used.

    Args:
        data: the whole file; text is UTF-8, with or without a byte order mark.
        format: the format of the file.
        name: the name of the table in errors, e.g. its file name.

    Returns:
        The examples in the order of the table.

    Raises:
        DataError: a required column is missing, the table is empty or unreadable, or cells are invalid: up to 20
            problems are listed, each with its line or row. Two labels of an image, and two names or descriptions of a
            class, are problems, too. So are several splits.
        UnknownNameError: the format is none of the three.
    """
    return unique_examples(parse_rows(data, format=format, name=name).rows, name=name)


def parse_rows(
    data: bytes | BinaryIO,
    *,
    format: TableFormat,  # noqa: A002
    name: str,
    image_column: str | None = None,
    label_column: str | None = None,
) -> ExampleRows:
    """Parse the rows of a table of labelled images.

    Args:
        data: see `parse_examples`; of a parquet file, also an open file.
        format: see `parse_examples`.
        name: the name of the table in errors, and in references to images that it holds.
        image_column: the column of the images, of their paths or URLs; None goes by the usual names.
        label_column: the column of the labels; None goes by the usual names.

    Raises:
        DataError: see `parse_examples`.
        UnknownNameError: see `parse_examples`.
    """
    given = {
        field: column for field, column in (("image", image_column), ("label", label_column)) if column is not None
    }
    table = _reader(format, given)(data, name)
    if not table.rows:
        raise DataError(f"{name} has no rows; expected at least one example")
    chosen = _choose_columns(table, given, name)
    flags = {} if "split" in chosen else find_flags(table, chosen.values())
    found: list[tuple[str, Example]] = []
    problems: list[str] = []
    for number, row in enumerate(table.rows, start=1):
        try:
            embedded = f"{name}#{number}" if chosen["image"] in table.images else None
            example = _parse_example(row, chosen, table.class_names, embedded)
            found.append((row.place, _flagged(example, row, flags) if flags else example))
        except DataError as error:
            problems.append(f"{row.place}: {error}")
    raise_if_any(name, [*problems, *_contradictions(found)])
    images = chosen["image"] if chosen["image"] in table.images else None
    notices = () if "split" in chosen or flags else tuple(notices_of_parts(table, chosen.values(), name))
    return ExampleRows(tuple(found), images, _has_numbers(table, chosen["label"]), notices)


def _has_numbers(table: Table, column: str) -> bool:
    return column not in table.class_names and any(isinstance(row.cells.get(column), int) for row in table.rows)


def unique_examples(rows: Iterable[tuple[str, Example]], *, name: str, split: SplitChoice = NO_SPLIT) -> list[Example]:
    """Return the examples of a split, each image once.

    Args:
        rows: of one or several tables, see `ExampleRows`.
        name: the name of the tables in errors.
        split: the split, if there are several.

    Raises:
        DataError: rows contradict each other, or there are several splits and none was chosen.
    """
    found = list(rows)
    raise_if_any(name, _contradictions(found))
    return _without_repeats(select_split([example for _, example in found], split, where=name))


def _reader(format: str, given: Mapping[str, str]) -> Callable[[Any, str], Table]:  # noqa: A002
    if format not in READERS:
        raise UnknownNameError("table format", format, READERS)
    if format != "parquet":
        return READERS[format]
    usual = {alias for field, aliases in COLUMNS.items() if field not in given for alias in aliases}
    named = {field: column.strip().lower() for field, column in given.items()}
    images = {named["image"]} if "image" in named else set(IMAGE_COLUMNS)
    texts = usual.union(NAME_COLUMNS, FLAG_COLUMNS, PART_COLUMNS, named.values())
    return partial(read_parquet, columns=texts, image_columns=images)


def _choose_columns(table: Table, given: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the column of the table for each field; optional fields may be absent."""
    lowered = [column.strip().lower() for column in table.columns]
    chosen, problems = {}, []
    for field in COLUMNS:
        wanted = given[field].strip().lower() if field in given else _usual_name(field, table, lowered)
        if wanted in lowered:
            chosen[field] = table.columns[lowered.index(wanted)]
            if lowered.count(wanted) > 1:
                problems.append(f"{lowered.count(wanted)} columns {wanted!r}, expected one; remove the others")
        elif field in given:
            problems.append(f"no column {given[field]!r} ({SETTINGS[field]}); found {_shown_columns(table.columns)}")
        elif field in REQUIRED:
            problems.append(
                f"no column for the {field}: expected one of {', '.join(COLUMNS[field])}; found "
                f"{_shown_columns(table.columns)}. Name the column with {SETTINGS[field]}"
            )
    raise_if_any(name, problems, MissingColumnError)
    return chosen


def _usual_name(field: str, table: Table, lowered: Sequence[str]) -> str:
    """Return the column of a field by its usual names, in lower case; "" if there is none."""
    aliases: Sequence[str] = COLUMNS[field]
    if field == "image":
        images = {column.strip().lower() for column in table.images}
        if held := next((alias for alias in IMAGE_COLUMNS if alias in images), None):
            return held
    if field == "split":
        aliases = [*aliases, *(alias for alias in NAME_COLUMNS if holds_splits(table, alias))]
    return next((alias for alias in aliases if alias in lowered), "")


def _shown_columns(columns: tuple[str, ...]) -> str:
    shown = ", ".join(repr(column[:40]) for column in columns[:20])
    return f"[{shown}]" + f" and {len(columns) - 20} more" * (len(columns) > 20)


def _parse_example(
    row: Row, chosen: Mapping[str, str], class_names: Mapping[str, tuple[str, ...]], embedded: str | None
) -> Example:
    cells = {field: row.cells.get(column) for field, column in chosen.items()}
    image = embedded or cells["image"]
    label = _label(cells["label"], class_names.get(chosen["label"]))
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
        split=_text(cells["split"], "split") or "" if "split" in chosen else None,
    )


def _flagged(example: Example, row: Row, flags: Mapping[str, str]) -> Example:
    """Return an example with its split; a class without an image belongs to none."""
    return replace(example, split=flagged_split(row, flags) if example.image else "")


def _label(cell: Any, names: Sequence[str] | None) -> str | None:
    """Return a label as text: an integer by its name, where there are names."""
    if names is None or not isinstance(cell, int) or isinstance(cell, bool):
        return _text(cell, "label")
    if not 0 <= cell < len(names):
        raise DataError(
            f"label {cell} is none of the {len(names)} classes that the table names (0 to {len(names) - 1})"
        )
    return names[cell].strip()


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
            ("split of image", example.image, example.split),
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
