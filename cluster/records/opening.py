"""Telling what kind of archive lies at a place, and opening it as that."""

from __future__ import annotations

from collections.abc import Collection

from cluster.errors import SourceError
from cluster.records.base import EntryError, Skipped, Source
from cluster.records.columns import Columns
from cluster.records.containers import is_pattern
from cluster.records.folder import FolderSource
from cluster.records.listing import walk
from cluster.records.location import Location
from cluster.records.names import is_parquet, is_sidecar, is_tar
from cluster.records.parquet import ParquetSource
from cluster.records.reading import patiently
from cluster.records.tar import TarSource
from cluster.storage.settings import DEFAULT_STORAGE, Storage

_EXPECTED = "expected a folder of images, or a file, a folder or a glob of .tar, .tar.gz, .tgz or .parquet"


def open_source(
    uri: str,
    *,
    shard_records: int = 256,
    max_bytes: int = 256 << 20,
    columns: Columns | None = None,
    schemes: Collection[str] = (),
    storage: Storage = DEFAULT_STORAGE,
) -> Source:
    """Open an archive: a folder of images, parquet tables, or tar archives.

    The suffix of a file or glob decides; a folder is of tars or of tables if it holds nothing else (but sidecars).
    Parquet files beside tars are sidecars.

    Args:
        uri: any fsspec URL, or a local path.
        shard_records: about how many records a shard has, >= 1; a tar is always one shard.
        max_bytes: larger entries become an error and are never held in memory.
        columns: of parquet tables; None goes by the usual names.
        schemes: kinds of URL that rows of tables may name beside the archive's own kind, see `References`.
        storage: how S3 is reached.

    Raises:
        SourceError: there is nothing, or nothing of this kind; the message says what was expected.
        StorageError: storage does not answer.
    """
    if shard_records < 1:
        raise SourceError(f"shard_records must be at least 1, got {shard_records}")
    location = Location.parse(uri, storage)
    try:
        kind = _kind(location)
        if kind == "parquet":
            options = {"shard_records": shard_records, "max_bytes": max_bytes}
            return ParquetSource.open(location, columns or Columns(), schemes=frozenset(schemes), **options)
    except EntryError as error:
        raise SourceError(f"{location.shown}: {error}; {_EXPECTED}") from error
    if kind == "tar":
        return TarSource(location, max_bytes)
    return FolderSource(location, shard_records, max_bytes)


def _kind(location: Location) -> str:
    filesystem, path = location.open()
    if (is_tar(path) or is_parquet(path)) and location.is_file():
        return _kind_by_name([path])
    if is_pattern(location):
        return _kind_by_name(patiently(lambda: filesystem.glob(path), location.shown))
    try:
        return _kind_of_folder(location)
    except EntryError:
        if location.is_file():
            return _kind_by_name([path])
        raise


def _kind_by_name(paths: list[str]) -> str:
    if any(is_tar(path) for path in paths):
        return "tar"
    if any(is_parquet(path) for path in paths):
        return "parquet"
    raise EntryError("a file of another kind" if paths else "nothing matches")


def _kind_of_folder(location: Location) -> str:
    """Stops at the first file that is neither tar nor table: a folder of images is not listed twice."""
    tars = tables = problems = 0
    for entry in walk(location, Skipped()):
        tars += is_tar(entry.path)
        tables += is_parquet(entry.path)
        problems += entry.problem is not None
        if entry.problem is None and not (is_tar(entry.path) or is_sidecar(entry.path)):
            return "folder"
    if tars or tables:
        return "tar" if tars else "parquet"
    if problems:
        return "folder"
    raise EntryError("nothing is there but hidden files and sidecars, if anything")
