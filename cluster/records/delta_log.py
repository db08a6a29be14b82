"""Delta tables: which files are in their current version. Files of older versions lie beside them until a vacuum.

A log is JSON commits, numbered without a gap, and checkpoints that stand for all commits up to theirs. What cannot be
read as a log is ignored: then every table of the folder counts.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from cluster.errors import SourceError
from cluster.records.base import EntryError
from cluster.records.location import Location
from cluster.records.reading import read_remote, with_retries

MAX_BYTES = 256 << 20
"""Largest file of a log that is read."""
_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")


def current_files(location: Location) -> frozenset[str] | None:
    """Return the files of the current version of a Delta table, relative to it.

    Args:
        location: a folder.

    Returns:
        None if it is no Delta table, or its log does not tell.

    Raises:
        SourceError: rows of its files are deleted, which only a reader of Delta tables leaves out.
        StorageError: storage does not answer.
    """
    filesystem, path = location.open()
    log = f"{path.rstrip('/')}/_delta_log"
    try:
        infos = with_retries(lambda: filesystem.ls(log, detail=False), "the log of a Delta table")
        files = _replay(filesystem, log, [str(name).rpartition("/")[2] for name in infos])
    except (EntryError, ValueError, TypeError, AttributeError, KeyError, pa.ArrowException):
        return None
    if any(action.get("deletionVector") for action in files.values()):
        advice = "write it anew without them, as a Parquet table"
        raise SourceError(f"{location.redacted}: a Delta table with deletion vectors; {advice}")
    return frozenset(files) or None


def _replay(filesystem: AbstractFileSystem, log: str, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return the files of the newest version, each with the action that added it."""
    commits = {int(found[1]): name for name in sorted(names) if (found := _COMMIT.fullmatch(name))}
    checkpoints = {int(found[1]): name for name in sorted(names) if (found := _CHECKPOINT.fullmatch(name))}
    start = max(checkpoints, default=-1)
    if start < 0 and 0 not in commits:
        return {}
    files: dict[str, dict[str, Any]] = {}
    read = partial(_read, filesystem, log)
    actions = list(_rows(read(checkpoints[start]))) if start >= 0 else []
    for version in sorted(version for version in commits if version > start):
        actions += [json.loads(line) for line in read(commits[version]).splitlines() if line.strip()]
    for action in actions:
        if removed := action.get("remove"):
            files.pop(unquote(removed["path"]), None)
        if added := action.get("add"):
            files[unquote(added["path"])] = added
    return files


def _rows(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the rows of a checkpoint that add files: it lists no file twice."""
    table = pq.read_table(io.BytesIO(data), columns=["add"])
    yield from ({"add": added} for added in table["add"].to_pylist() if added is not None)


def _read(filesystem: AbstractFileSystem, log: str, name: str) -> bytes:
    return with_retries(lambda: read_remote(filesystem, f"{log}/{name}", MAX_BYTES), name)
