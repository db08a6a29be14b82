"""The folder that the relative paths of a table or a splits.json start in."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from cluster import Storage
from cluster.records.base import EntryError
from cluster.records.location import Location
from cluster.records.reading import with_retries
from cluster.records.references import References
from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.errors import DataError

SAMPLE = 5
"""Images that are looked up."""
MAX_FOLDERS = 200
"""Folders in which they are looked up."""


def folder_of_images(
    images: Sequence[str],
    folder: str,
    given: str | None,
    name: str,
    storage: Storage = DEFAULT_STORAGE,
    *,
    key: str = "support.images",
) -> str:
    """Return the folder that relative paths start in: the given one, or that of the table.

    Data sets often have their images in a folder beside the table ("splits.json" beside "101_ObjectCategories/"). Which
    one that is, is never guessed, but named.

    Args:
        images: paths and URLs, as the table has them.
        folder: of the table.
        given: the folder that was set; None if none was.
        name: of the table, for errors.
        storage: how S3 is reached.
        key: how messages call the setting.

    Raises:
        DataError: no folder was set, the first few images are not in the table's (a local one), and one beside it has
            them.
    """
    if given is not None:
        return given
    location = Location.parse(folder, storage)
    sample = list(islice((image for image in images if "://" not in image and not image.startswith("/")), SAMPLE))
    if not location.is_local or not sample or any(_exists(image, location.uri) for image in sample):
        return folder
    for other in islice(_folders_around(location.uri), MAX_FOLDERS):
        if all(_exists(image, other) for image in sample):
            base = location.uri if "://" in folder else folder
            shown = posixpath.normpath(f"{base}/{posixpath.relpath(other, location.uri)}")
            raise DataError(
                f'{name}: the images are not in {folder}, the folder of the file, but in {shown}: set {key} = "{shown}"'
            )
    return folder


def _exists(image: str, folder: str) -> bool:
    try:
        return References(Location(folder), folder, 0).find(image, _is_file)
    except EntryError:
        return False


def _is_file(place: Location) -> bool:
    with_retries(lambda: os.stat(place.uri), "a local file")  # noqa: PTH116
    return place.is_file()


def _folders_around(folder: str) -> Iterator[str]:
    """Yield the folders in a folder, the one around it, and those beside it."""
    parent = posixpath.dirname(folder)
    yield from _folders_in(folder)
    yield parent
    yield from _folders_in(parent)


def _folders_in(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            folders = [str(Path(entry)) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return
    yield from sorted(folders)
