"""Open an archive as the form that it has."""

from __future__ import annotations

import os
from collections.abc import Collection

from cluster.errors import SourceError
from cluster.records.base import EntryError, ReadOptions, Skipped, Source
from cluster.records.columns import Columns
from cluster.records.containers import is_pattern
from cluster.records.contents import Contents, Files, explained
from cluster.records.forms import FOLDER, FORMS, GLOB, LIST, Form, form_of_file, is_list
from cluster.records.listing import Entry, walk
from cluster.records.local_files import is_within
from cluster.records.location import Location
from cluster.records.names import is_entry
from cluster.records.patterns import matching_files
from cluster.records.reading import with_retries
from cluster.records.signatures import MARKUP_BYTES, is_markup
from cluster.storage.filesystems import fetch
from cluster.storage.settings import DEFAULT_STORAGE, Storage

KERNEL_FOLDERS = ("/dev", "/proc", "/sys")
SHARED_MEMORY = "/dev/shm"  # noqa: S108 -- a name to compare with
"""The one folder in them for files of users."""


def open_source(
    uri: str,
    *,
    shard_records: int = 256,
    max_bytes: int = 256 << 20,
    columns: Columns | None = None,
    schemes: Collection[str] = (),
    storage: Storage = DEFAULT_STORAGE,
    form: str | None = None,
    component: str | None = None,
    follow_links: bool = False,
) -> Source:
    """Open an archive of any form in `FORMS`.

    The suffix decides for a file and for the files that a glob matches; lists of images must be named so, as they are
    sidecars elsewhere. A folder is an archive of containers if it holds nothing else but sidecars, see `Contents`; part
    of that is known only when it has been listed.

    Args:
        uri: any fsspec URL, or a local path.
        shard_records: about how many records a shard has, >= 1; a tar is always one shard.
        max_bytes: larger entries become an error and are never held in memory.
        columns: of Parquet tables; None goes by the usual names.
        schemes: kinds of URL that rows of tables may name beside the archive's own kind, see `References`.
        storage: how S3 is reached.
        form: name of the form; files of all other forms are passed over. None goes by what is there.
        component: what the names of images have after their first dot, see `is_entry`; None counts every name that is
            not that of a sidecar.
        follow_links: whether symbolic links out of a local folder are followed, see `walk`.

    Raises:
        SourceError: there is nothing, or nothing of one form; the message states what was expected.
        StorageError: storage does not answer.
    """
    if shard_records < 1:
        raise SourceError(f"shard_records must be at least 1, got {shard_records}")
    location = Location.parse(uri, storage)
    options = ReadOptions(
        shard_records=shard_records,
        max_bytes=max_bytes,
        columns=columns or Columns(),
        schemes=frozenset(schemes),
        component=component,
        follow_links=follow_links,
    )
    with explained(location):
        _refuse_kernel_files(location)
        found = _find_form(location, options) if form is None else _named_form(form, location, options)
        if found not in (FOLDER, GLOB) and location.is_file():
            _refuse_markup(location, found)
        if component is not None and found not in (FOLDER, GLOB) and not found.has_members:
            reason = f"a {found.name} archive has no files or members that component = {component!r} could name"
            raise SourceError(f"{location.redacted}: {reason}; remove component")
        return found.open(location, options, Files(location, options, found, is_chosen=form is not None))


def _refuse_kernel_files(location: Location) -> None:
    """Raise where the kernel makes up the files: there are no images, but files without an end.

    Raises:
        EntryError: the place is in such a folder.
    """
    if not location.is_local:
        return
    path = os.path.realpath(location.uri)
    folder = next((folder for folder in KERNEL_FOLDERS if is_within(path, folder)), None)
    if folder is not None and not is_within(path, SHARED_MEMORY):
        raise EntryError(f"the files in {folder} are made up by the kernel and are no images")


def _refuse_markup(location: Location, form: Form) -> None:
    """Raise if the only file of an archive is a page or message of a web server in place of what was requested.

    Raises:
        EntryError: it is, or it cannot be read.
        StorageError: storage does not answer.
    """
    filesystem, path = location.open()
    head = with_retries(lambda: fetch(filesystem, path, start=0, end=MARKUP_BYTES), location.redacted)
    if is_markup(head):
        raise EntryError(f"an HTML or XML page in place of a {form.name} file; check the URL, or download it again")


def _find_form(location: Location, options: ReadOptions) -> Form:
    _, path = location.open()
    if is_list(path) and location.is_file():
        return LIST
    if form_of_file(path) is not None and location.is_file():
        return _form_of_files([path], location, options)
    if is_pattern(location):
        return _form_of_glob(location, options)
    try:
        return _form_of_folder(location, options)
    except EntryError:
        if location.is_file():
            return _form_of_files([path], location, options)
        raise


def _form_of_glob(location: Location, options: ReadOptions) -> Form:
    """Return the form of what a glob matches: images if the first file that is no sidecar is no container."""
    filesystem, path = location.open()
    if is_list(path) or form_of_file(path) is not None:
        matches = with_retries(lambda: filesystem.glob(path), location.redacted)
        return LIST if is_list(path) and matches else _form_of_files(matches, location, options)
    for entry in matching_files(location, Skipped(), follow_links=options.follow_links):
        if form_of_file(entry.path) is not None:
            matches = with_retries(lambda: filesystem.glob(path), location.redacted)
            return _form_of_files(matches, location, options)
        if is_entry(entry.path, options.component):
            return GLOB
    raise EntryError("no file matches; ** stands for folders at any depth")


def _form_of_files(paths: Collection[str], location: Location, options: ReadOptions) -> Form:
    contents = Contents(location, options, is_folder=False)
    for path in paths:
        contents.add(Entry(path.rpartition("/")[2]))
    if contents.containers:
        return contents.form()
    if not paths:
        raise EntryError("no file matches")
    suffixes = ", ".join(f".{suffix} files" for suffix in contents.unread)
    raise EntryError(f"not an archive{f': {suffixes} are not read' if suffixes else ''}")


def _form_of_folder(location: Location, options: ReadOptions) -> Form:
    """Return the form of a folder as soon as it is known, so that a folder of images is not listed twice."""
    contents = Contents(location, options)
    for entry in walk(location, Skipped(), follow_links=options.follow_links):
        contents.add(entry)
        if contents.is_settled:
            return FOLDER
    return contents.form()


def _named_form(name: str, location: Location, options: ReadOptions) -> Form:
    """Return the form of this name, if there is something of it.

    Raises:
        SourceError: there is no such form.
        EntryError: there is nothing of it.
    """
    choices = {form.name: form for form in FORMS if form is not GLOB and not form.is_named}
    if (found := choices.get(name)) is None:
        raise SourceError(f"unknown form {name!r}; expected {', '.join(choices)}")
    if location.is_file() or is_pattern(location):
        if found is FOLDER:
            raise SourceError(f"{location.redacted} is not a folder, as form = {name!r} needs one")
        return found
    for _ in Files(location, options, found, is_chosen=True)(Skipped()):
        return found
    raise EntryError(f"nothing of the form {name!r}")
