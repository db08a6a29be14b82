"""Columns of a table that hold the splits of its rows: as names, as a flag for a split, or as numbered parts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from fewshot.data.split_names import split_of
from fewshot.data.table_rows import Row, Table

NAME_COLUMNS = (
    "set", "subset", "partition", "phase", "splits", "data set", "data_set", "dataset", "usage", "mode", "stage",
    "train_val_test", "train_test", "fold",
)  # fmt: skip
"""Names of columns that hold splits if every cell is the name of one, or there are names of several."""
FLAG_COLUMNS: Mapping[str, str] = {
    "is_test": "test", "is_testing": "test", "is_eval": "test",
    "is_val": "val", "is_valid": "val", "is_validation": "val", "is_dev": "val",
    "is_train": "train", "is_training": "train",
}  # fmt: skip
"""Names of columns that mark the rows of a split by true or 1, and this split."""
PART_COLUMNS = ("fold", "folds", "partition", "set", "subset")
"""Names of columns that may divide a table into parts without saying which of them is for what."""
MAX_PARTS = 20
MAX_SHOWN = 5
"""Parts that a notice lists."""

_TRUTH_VALUES: Mapping[str, bool] = {
    "true": True, "t": True, "yes": True, "y": True, "1": True, "1.0": True,
    "false": False, "f": False, "no": False, "n": False, "0": False, "0.0": False, "": False,
}  # fmt: skip


def holds_splits(table: Table, name: str) -> bool:
    """Return whether every cell of a column is the name of a split, or cells have the names of several.

    Args:
        table: the table.
        name: of the column, in lower case; there need not be one.
    """
    if (column := column_called(table, name)) is None:
        return False
    cells = {row.cells.get(column) for row in table.rows if isinstance(row.cells.get(column), str | int | None)}
    splits = {split_of(cell) if isinstance(cell, str) else None for cell in cells}
    return splits != {None} and (None not in splits or len(splits) > 2)


def find_flags(table: Table, used: Collection[str]) -> dict[str, str]:
    """Return the columns that mark the rows of a split, with this split.

    Args:
        table: the table.
        used: columns that are something else.
    """
    columns = {column_called(table, name): split for name, split in FLAG_COLUMNS.items()}
    return {
        column: split
        for column, split in columns.items()
        if column is not None and column not in used and all(_truth(row, column) is not None for row in table.rows)
    }


def flagged_split(row: Row, flags: Mapping[str, str]) -> str:
    """Return the split that a row is marked with.

    Rows without a mark are for training, or, where those for training are marked, for testing. "" if neither is left.

    Args:
        row: of a table.
        flags: of this table, see `find_flags`; at least one.
    """
    rest = [split for split in ("train", "test", "") if split not in flags.values()]
    return next((split for column, split in flags.items() if _truth(row, column)), rest[0])


def notices_of_parts(table: Table, used: Collection[str], name: str) -> Iterator[str]:
    """Yield a sentence for each column that may divide a table into parts, but does not say what they are for.

    Args:
        table: the table.
        used: columns that are something else.
        name: the name of the table.
    """
    for part_column in PART_COLUMNS:
        column = column_called(table, part_column)
        if column is None or column in used:
            continue
        cells = [str(cell) for row in table.rows if (cell := row.cells.get(column)) not in (None, "")]
        parts = sorted(set(cells))
        if 2 <= len(parts) <= min(MAX_PARTS, len(cells) // 2):
            shown = ", ".join(part[:40] for part in parts[:MAX_SHOWN])
            more = f" and {len(parts) - MAX_SHOWN} more" * (len(parts) > MAX_SHOWN)
            yield (
                f"{name}: the column {column!r} has {len(parts)} values ({shown}{more}), and the rows of all of them "
                'are used. If they are splits, call the column "split" to choose one of them.'
            )


def column_called(table: Table, name: str) -> str | None:
    """Return the first column that has this name in lower case; None if there is none."""
    return next((column for column in table.columns if column.strip().lower() == name), None)


def _truth(row: Row, column: str) -> bool | None:
    """Return the truth value of a cell, false for a blank one; None if it has none."""
    cell: Any = row.cells.get(column)
    return _TRUTH_VALUES.get("" if cell is None else str(cell).strip().lower())
