"""The last lines of the logs of a Ray that did not start: they have the reason, and are removed with its folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import shorten

MAX_LINES = 12
LINES_PER_FILE = 3
MAX_LINE_LENGTH = 300
_TAIL_BYTES = 16 << 10
_FIRST = ("raylet.err", "gcs_server.err", "raylet.out", "gcs_server.out")
"""Logs that have the reason most often."""
_TROUBLE = re.compile(r"[\]\d] [EFC] [\[\d]|\b(error|exception|fatal|cannot|could not|failed|failure|denied)\b", re.I)


def last_log_lines(folder: str) -> str:
    """Return the last lines about trouble in the logs of Ray's sessions in a folder, or the very last ones.

    Returns:
        the text to append to a message, which begins with a line end; "" where there are no logs.
    """
    paths = sorted(Path(folder).glob("session_*/logs/*.*"), key=lambda path: (path.name not in _FIRST, _rank(path)))
    tails = {path: _tail(path) for path in paths if path.is_file() and not path.parent.parent.is_symlink()}
    lines = list(_chosen(tails, _TROUBLE.search)) or list(_chosen(tails, bool))
    return "".join(f"\n  {line}" for line in ["Its logs end with:", *lines[:MAX_LINES]]) if lines else ""


def _rank(path: Path) -> tuple[int, str]:
    return (_FIRST.index(path.name) if path.name in _FIRST else len(_FIRST), path.name)


def _chosen(tails: Mapping[Path, Sequence[str]], choose: Callable[[str], object]) -> Iterator[str]:
    """Yield the last of the lines that are chosen in each file, with the name of the file."""
    for path, lines in tails.items():
        found = [line for line in lines if choose(line.strip())]
        yield from (f"{path.name}: {shorten(line, MAX_LINE_LENGTH)}" for line in found[-LINES_PER_FILE:])


def _tail(path: Path) -> list[str]:
    """Return the lines at the end of a file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="backslashreplace").splitlines()
    except OSError:
        return []
