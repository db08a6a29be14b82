"""A JSON object a line (UTF-8), with the columns of the predictions as keys; what there is none of is null.

This module also has the pieces of JSON documents that are written without holding them: `JsonStream`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from ray_jobs.export.destination import Destination
from ray_jobs.export.exported_rows import ExportedRows


def write(rows: ExportedRows, out: Destination) -> None:
    """Write the lines."""
    with out.open() as file:
        for row in rows:
            file.write(to_json(row.values) + b"\n")


def to_json(value: Any) -> bytes:
    """Return a value as JSON on one line, for readers that take any line end of Unicode for one, too.

    Raises:
        ValueError: a number in it is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\x85", "\\u0085").encode()


class JsonStream:
    """Writes a JSON document piece by piece.

    Args:
        file: where it goes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._separator = b""

    @contextmanager
    def inside(self, begin: bytes, end: bytes) -> Iterator[JsonStream]:
        """Write `begin`, then what is added in the context to what is yielded, then `end`."""
        self._file.write(self._separator + begin)
        self._separator = b",\n"
        yield JsonStream(self._file)
        self._file.write(end)

    def add(self, value: Any, *, key: str | None = None) -> None:
        """Add an element of a list; with a key, a member of an object."""
        name = b"" if key is None else to_json(key) + b": "
        self._file.write(self._separator + name + to_json(value))
        self._separator = b",\n"
