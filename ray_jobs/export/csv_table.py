"""A CSV table (RFC 4180, UTF-8): a row an image, in the columns of the predictions. Lists are JSON in their cells.

Texts are written as they are, also those that a spreadsheet takes for formulas (they begin with "=", "+", "-" or "@"):
a prefix against that would be part of the key for every program that reads the table back, and the image would not be
found. They are counted, and `fewshot export` warns of them.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from ray_jobs.export.destination import Destination
from ray_jobs.export.exported_rows import ExportedRows

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write(rows: ExportedRows, out: Destination) -> None:
    """Write the table."""
    columns = rows.columns
    with io.TextIOWrapper(out.open(), encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        for row in rows:
            cells = [_cell(row.values[column]) for column in columns]
            rows.counts.formulas += sum(map(_is_formula, cells))
            table.writerow(cells)


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _is_formula(cell: Any) -> bool:
    return isinstance(cell, str) and cell.startswith(FORMULA_STARTS)
