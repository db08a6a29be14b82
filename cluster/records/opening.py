"""Open an archive as the form that it has."""

from __future__ import annotations

from collections.abc import Collection

from cluster.errors import SourceError
from cluster.records.base import EntryError, ReadOptions, Skipped, Source
from cluster.records.columns import Columns
from cluster.records.containers import is_pattern
from cluster.records.forms import FOLDER, FORMS, GLOB, LIST, Form, expected_forms, form_of_file, is_list
from cluster.records.listing import walk
from cluster.records.location import Location
from cluster.records.names import is_sidecar
from cluster.records.patterns import matching_files
from cluster.records.reading import with_retries
from cluster.storage.settings import DEFAULT_STORAGE, Storage


def open_source(
    uri: str,
    *,
    shard_records: int = 256,
    max_bytes: int = 256 << 20,
    columns: Columns | None = None,
    schemes: Collection[str] = (),
    storage: Storage = DEFAULT_STORAGE,
) -> Source:
    """Open an archive of any form in `FORMS`.

    The suffix decides for a file and for the files that a glob matches; lists of images must be named so, as they are
    sidecars elsewhere. A folder is an archive of containers if it holds nothing else but sidecars.

    Args:
        uri: any fsspec URL, or a local path.
        shard_records: about how many records a shard has, >= 1; a tar is always one shard.
        max_bytes: larger entries become an error and are never held in memory.
        columns: of Parquet tables; None goes by the usual names.
        schemes: kinds of URL that rows of tables may name beside the archive's own kind, see `References`.
        storage: how S3 is reached.

    Raises:
        SourceError: there is nothing, or nothing of one form; the message states what was expected.
        StorageError: storage does not answer.
    """
    if shard_records < 1:
        raise SourceError(f"shard_records must be at least 1, got {shard_records}")
    location = Location.parse(uri, storage)
    options = ReadOptions(
        shard_records=shard_records, max_bytes=max_bytes, columns=columns or Columns(), schemes=frozenset(schemes)
    )
    try:
        return _find_form(location).open(location, options)
    except EntryError as error:
        raise SourceError(f"{location.redacted}: {error}; {expected_forms()}") from error


def _find_form(location: Location) -> Form:
    _, path = location.open()
    if is_list(path) and location.is_file():
        return LIST
    if form_of_file(path) is not None and location.is_file():
        return _form_of_files([path])
    if is_pattern(location):
        return _form_of_glob(location)
    try:
        return _form_of_folder(location)
    except EntryError:
        if location.is_file():
            return _form_of_files([path])
        raise


def _form_of_glob(location: Location) -> Form:
    """Return the form of what a glob matches: images if the first file that is no sidecar is no container."""
    filesystem, path = location.open()
    if is_list(path) or form_of_file(path) is not None:
        matches = with_retries(lambda: filesystem.glob(path), location.redacted)
        return LIST if is_list(path) and matches else _form_of_files(matches)
    for entry in matching_files(location, Skipped()):
        if form_of_file(entry.path) is not None:
            return _form_of_files(with_retries(lambda: filesystem.glob(path), location.redacted))
        if not is_sidecar(entry.path):
            return GLOB
    raise EntryError("no file matches; ** stands for folders at any depth")


def _form_of_files(paths: Collection[str]) -> Form:
    found = {form for path in paths if (form := form_of_file(path)) is not None}
    if not found:
        raise EntryError("not an archive" if paths else "no file matches")
    return _choose(found)


def _form_of_folder(location: Location) -> Form:
    """Stop at the first file that is neither a container nor a sidecar: a folder of images is not listed twice."""
    found: set[Form] = set()
    has_problems = False
    for entry in walk(location, Skipped()):
        if (form := form_of_file(entry.path)) is not None:
            found.add(form)
        elif entry.problem is None and not is_sidecar(entry.path):
            return FOLDER
        has_problems |= entry.problem is not None
    if found:
        return _choose(found)
    if has_problems:
        return FOLDER
    raise EntryError("no images (hidden files and sidecars do not count)")


def _choose(found: Collection[Form]) -> Form:
    """Choose the form of an archive that holds containers of these forms, at least one.

    Raises:
        EntryError: several of them have members, so that none is a sidecar of another.
    """
    forms = [form for form in FORMS if form in found]
    forms = [form for form in forms if form.has_members] or forms
    if len(forms) > 1:
        suffixes = [form.suffixes[0] for form in forms]
        raise EntryError(f"files of several forms ({', '.join(suffixes)}): choose one, for example with *{suffixes[0]}")
    return forms[0]
