"""Find the files of the current version of a Delta table. Files of older versions lie beside them until a vacuum.

A log consists of JSON commits, numbered without a gap, and of checkpoints, each of which replaces all commits up to its
number. A log that cannot be parsed is ignored: then every table of the folder counts.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import SourceError
from cluster.records.base import EntryError
from cluster.records.location import Location
from cluster.records.reading import read_local, read_remote, with_retries

MAX_BYTES = 256 << 20
"""Largest log that is read; it can list some millions of files."""
_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")
_BATCH_ROWS = 8
"""A dictionary can repeat a large value endlessly."""
_DAMAGE = (ValueError, TypeError, AttributeError, KeyError, RecursionError, pa.ArrowException)


def current_files(location: Location) -> frozenset[str] | None:
    """Return the files of the current version of a Delta table, relative to it.

    Args:
        location: a folder.

    Returns:
        None if it is no Delta table, or its log cannot be parsed.

    Raises:
        SourceError: it has deletion vectors (rows that are deleted, but still in the files), or its log is too large.
        StorageError: storage does not answer.
    """
    log = _Log(location)
    try:
        files = log.replay()
    except SourceError:
        raise
    except _DAMAGE:
        return None
    if any(action.get("deletionVector") for action in files.values()):
        raise log.refusal("it has deletion vectors")
    return frozenset(files) or None


class _Log:
    """Reads a log, within limits."""

    def __init__(self, location: Location) -> None:
        filesystem, path = location.open()
        self._location, self._filesystem, self._path = location, filesystem, f"{path.rstrip('/')}/_delta_log"
        self._left = MAX_BYTES

    def refusal(self, reason: str) -> SourceError:
        """Return the error for a table that only a reader of Delta tables can read."""
        advice = "write it anew as a Parquet table, or name the files to read by a glob"
        return SourceError(f"{self._location.redacted}: a Delta table that cannot be read: {reason}; {advice}")

    def replay(self) -> dict[str, dict[str, Any]]:
        """Return the files of the newest version, each with the action that added it."""
        names = sorted(str(name).rpartition("/")[2] for name in self._list())
        commits = {int(found[1]): name for name in names if (found := _COMMIT.fullmatch(name))}
        checkpoints = {int(found[1]): name for name in names if (found := _CHECKPOINT.fullmatch(name))}
        start = max(checkpoints, default=-1)
        if start < 0 and 0 not in commits:
            return {}
        files: dict[str, dict[str, Any]] = {}
        for action in self._rows(checkpoints[start]) if start >= 0 else ():
            _apply(action, files)
        for version in sorted(version for version in commits if version > start):
            for line in self._read(commits[version]).splitlines():
                if line.strip():
                    _apply(json.loads(line), files)
        return files

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a checkpoint that add files: it lists no file twice."""
        table = pq.ParquetFile(io.BytesIO(self._read(name)))
        for batch in table.iter_batches(_BATCH_ROWS, columns=["add"], use_threads=False):
            self._spend(batch.nbytes)
            yield from ({"add": added} for added in batch.column(0).to_pylist() if added is not None)

    def _list(self) -> list[Any]:
        try:
            return with_retries(lambda: list(self._filesystem.ls(self._path, detail=False)), "the log of a Delta table")
        except EntryError as error:
            if str(error) == "not found" or not self._location.is_local:  # Not every server can list folders.
                return []
            raise self.refusal(f"its log: {error}") from None

    def _read(self, name: str) -> bytes:
        path = f"{self._path}/{name}"
        try:
            if self._location.is_local:
                data = with_retries(lambda: read_local(path, MAX_BYTES), name)
            else:
                data = with_retries(lambda: read_remote(self._filesystem, path, MAX_BYTES), name)
        except EntryError as error:
            raise self.refusal(f"{name} in its log: {error}") from None
        self._spend(len(data))
        return data

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise self.refusal(f"its log has more than {MAX_BYTES} bytes")


def _apply(action: dict[str, Any], files: dict[str, dict[str, Any]]) -> None:
    if removed := action.get("remove"):
        files.pop(unquote(removed["path"]), None)
    if added := action.get("add"):
        files[unquote(added["path"])] = added
