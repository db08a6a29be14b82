"""Globs of images such as photos/**/*.jpg: of the folder before the first wildcard, only the matching files count.

Matching is that of fsspec's `glob`: `*` and `?` match within a name, `**` any number of folders, upper and lower case
differ. Unlike it, files are matched one by one as they are listed, and what cannot be listed is an entry with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from fsspec.utils import glob_translate

from cluster.errors import ClusterError, SourceError
from cluster.records.base import EntryError, Lister, Shard, Skipped
from cluster.records.containers import WILDCARDS, Archive, is_pattern
from cluster.records.folder import slice_folder
from cluster.records.listing import Entry, walk
from cluster.records.location import Location
from cluster.records.names import DESCRIBES_IMAGES, is_entry, is_packed, is_table
from cluster.storage.settings import DEFAULT_STORAGE, Storage

_WILDCARD = re.compile(f"[{re.escape(WILDCARDS)}]")


def open_glob(archive: Archive) -> Lister:
    """Open the files that a glob matches as an archive; keys are their paths below the folder of the glob."""
    return partial(_shards, archive)


def _shards(archive: Archive, skipped: Skipped) -> Iterator[Shard]:
    yield from slice_folder(folder_of_glob(archive.location), _images(archive, skipped), archive.options)


def _images(archive: Archive, skipped: Skipped) -> Iterator[Entry]:
    for entry in matching_files(archive.location, skipped, follow_links=archive.options.follow_links):
        if is_table(entry.path) and not entry.path.lower().endswith(DESCRIBES_IMAGES):
            found = f"{archive.location.redacted}: the glob matches images and tables, such as {entry.key}"
            raise SourceError(f"{found}; expected a glob that matches files of one form, such as *.jpg or *.parquet")
        if entry.is_folder or is_entry(entry.path, archive.options.component):
            yield entry
        else:
            skipped.add(entry.key)


def matching_files(location: Location, skipped: Skipped, *, follow_links: bool = False) -> Iterator[Entry]:
    """Yield the files that a glob matches, sorted by path, without hidden ones; paths begin below its folder.

    A folder that cannot be entered is an entry as well, since files in it may match.

    Args:
        location: a glob.
        skipped: counts hidden files and folders in the folder of the glob.
        follow_links: whether symbolic links out of the folder of the glob are followed, see `walk`.

    Raises:
        EntryError: the folder of the glob cannot be listed, or the text is not a glob.
        StorageError: storage does not answer.
    """
    folder = folder_of_glob(location)
    matches = _matcher(location.uri[len(folder.uri) :].lstrip("/"))
    for entry in walk(folder, skipped, follow_links=follow_links):
        if matches(entry.path):
            yield _checked(entry)
        elif entry.problem is not None and (entry.is_folder or "folder" in entry.problem):
            yield entry


def folder_of_glob(location: Location) -> Location:
    """Return the folder before the first wildcard of a glob.

    Raises:
        EntryError: a wildcard is in the name of a bucket or host.
    """
    first = _WILDCARD.search(location.uri)
    assert first is not None
    folder = location.uri[: first.start()].rpartition("/")[0]
    if folder.endswith(":/"):
        raise EntryError("a wildcard in the name of a bucket or host; write the name in full")
    return Location(folder or "/", location.storage)


def archive_folder(uri: str, storage: Storage = DEFAULT_STORAGE) -> str:
    """Return the folder of the files of an archive: for a glob, the part before the first wildcard."""
    try:
        location = Location.parse(uri, storage)
        return folder_of_glob(location).uri if is_pattern(location) else uri
    except (ClusterError, OSError, ValueError):  # Opening the archive gives the reason.
        return uri


def _matcher(pattern: str) -> Callable[[str], object]:
    try:
        return re.compile(glob_translate(pattern)).match
    except (ValueError, re.error) as error:
        raise EntryError(f"not a glob: {error}") from None


def _checked(entry: Entry) -> Entry:
    if entry.problem is None and is_packed(entry.path):
        advice = "choose archives by a glob of their suffix, such as **/*.tar"
        return replace(entry, problem=f"an archive or a compressed file among images, which is not opened; {advice}")
    return entry
