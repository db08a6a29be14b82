"""Decide the form of an archive by the names of its files, and refuse mixtures, of which a part would be ignored.

The suffix decides about each file. Containers of one form are an archive, whatever sidecars and markers lie beside
them, and so are images. Both together are refused, with two exceptions: a few files of unknown kind beside containers,
and Parquet tables that only describe the images beside them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cluster.errors import SourceError
from cluster.records.base import EntryError, ReadOptions, Skipped
from cluster.records.containers import Container
from cluster.records.delta_log import current_files
from cluster.records.forms import FOLDER, FORMS, Form, expected_forms, form_of_file
from cluster.records.listing import Entry, walk
from cluster.records.location import Location
from cluster.records.names import is_entry, is_image, suffix_of
from cluster.records.parquet import TableSummary

MAX_TABLES = 20
"""Tables beside images whose footers are read."""
MAX_ROWS_PER_IMAGE = 2
"""Rows for each image beside a table of paths, up to which it counts as a description of these images.

There may be more rows than images, since some images may be missing."""
MAX_STRAYS = 3
"""Files of unknown kind that are passed over beside containers; as many as there are containers, if these are more."""
ENOUGH = 1000
"""After so many files of unknown kind and no container, a folder counts as one of images."""

_UNREAD = frozenset(
    {"rar", "7z", "gz", "bz2", "xz", "zst", "lz4", "z", "iso", "dmg", "cab", "z01", "001"}
    | {"tfrecord", "tfrecords", "lmdb", "mdb", "mds", "beton", "rec"}
)
"""Suffixes of containers that no form reads."""
_DATA = frozenset({"arrow", "feather", "avro", "orc", "npz", "h5", "hdf5", "lmdb"})
"""Suffixes of sidecars that may be all the data there are, with a picture or two to look at beside them."""
_HUB_BLOB = re.compile(r"(?:^|/)blobs/[0-9a-f]{40}(?:[0-9a-f]{24})?$")
_HUB_SNAPSHOT = re.compile(r"(?:.*/)?snapshots/[^/]+(?=/)")


class MixtureError(EntryError):
    """Files of several forms, or files that should be read from another place. The message says what to do."""


@dataclass(slots=True)
class Contents:
    """Counts of the files of an archive, by kind.

    Attributes:
        location: a folder or a glob.
        options: how it is read.
        is_folder: whether it is a folder.
        containers: of each form, how many.
        images: files whose names are those of images.
        strays: files whose names are neither those of images nor of sidecars.
        unread: of each suffix of `_UNREAD`, how many files.
        sidecars: of each suffix, how many sidecars.

    Data of kinds that are not read beside even fewer images are not taken for sidecars of these.
    """

    location: Location
    options: ReadOptions
    is_folder: bool = True
    containers: Counter[Form] = field(default_factory=Counter)
    images: int = 0
    strays: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    sidecars: Counter[str] = field(default_factory=Counter)
    _suffixes: dict[Form, str] = field(default_factory=dict)
    _tables: list[Entry] = field(default_factory=list)
    _example: str = ""
    _entries: int = 0
    _problems: int = 0
    _links_out: int = 0
    _blobs: int = 0
    _snapshot: str = ""

    def add(self, entry: Entry) -> Form | None:
        """Count a file.

        Returns:
            The form of the archives that it belongs to; None if it is a sidecar, and so belongs to none.
        """
        self._look_for_hub(entry.path)
        form, suffix = form_of_file(entry.path), suffix_of(entry.path)
        if form is None and not (is_entry(entry.path, self.options.component) or entry.is_folder):
            self.sidecars[suffix] += 1
            return None
        self._entries += 1
        self._problems += entry.problem is not None
        self._links_out += entry.leads_out
        if form is not None:
            self._add_container(form, entry)
            return form
        if suffix in _UNREAD:
            self.unread[suffix] += 1
        elif is_image(entry.path) or (self.options.component is not None and not entry.is_folder):
            self._example = self._example if self.images else entry.key
            self.images += 1
        elif entry.problem is None:
            self._example = self._example or entry.key
            self.strays += 1
        return FOLDER

    def _look_for_hub(self, path: str) -> None:
        if "blobs/" in path and _HUB_BLOB.search(path):
            self._blobs += 1
        elif not self._snapshot and "snapshots/" in path and (found := _HUB_SNAPSHOT.match(path)):
            self._snapshot = found[0]

    def _add_container(self, form: Form, entry: Entry) -> None:
        self.containers[form] += 1
        self._suffixes.setdefault(form, next(end for end in form.suffixes if entry.path.lower().endswith(end)))
        is_table = form.summarize is not None and entry.problem is None and self.is_folder
        if is_table and len(self._tables) < MAX_TABLES:
            self._tables.append(entry)

    @property
    def is_settled(self) -> bool:
        """Whether the folder counts as one of images, whatever files follow."""
        is_plain = not self.containers and not self._problems
        return is_plain and (self.images > 0 or self.strays >= ENOUGH)

    def form(self) -> Form:
        """Return the form of the archive.

        Raises:
            EntryError: there is nothing to read.
            MixtureError: there are files of several forms, or they should be read from another place.
        """
        self.check_place()
        if not self.containers:
            return self._form_without_containers()
        form = self._form_of_containers()
        if self._beside and self._are_sidecars():
            return FOLDER
        if self._beside or self.unread or (form.has_members and self._first_table_holds_images()):
            raise MixtureError(self._mixture())
        return form

    def check(self, form: Form) -> None:
        """Check the form of an archive after all of it was listed.

        Raises:
            EntryError: there is nothing to read.
            MixtureError: the archive has another form, or several.
        """
        if self.form() is not form:
            raise MixtureError(self._mixture())

    def check_place(self) -> None:
        """Refuse folders that should be read from another place, or with links followed.

        Raises:
            MixtureError: it is such a folder.
        """
        if self._blobs and self._snapshot:
            snapshot = f"{self.location.redacted}/{self._snapshot}"
            raise MixtureError(f"a cache of the Hugging Face Hub, which has every file twice; expected {snapshot}")
        if self._links_out > self._entries / 2:
            raise MixtureError(
                f"{self._links_out} of {self._entries} entries are symbolic links to files or folders out of it, as in"
                " a snapshot of the Hugging Face Hub, DVC or git-annex; "
                "set archive.follow_links = true to follow them"
            )

    @property
    def _beside(self) -> int:
        """Number of files beside containers that are images, or too many to be strays."""
        return self.images + (self.strays if self.strays > max(MAX_STRAYS, self.containers.total()) else 0)

    def _form_without_containers(self) -> Form:
        data = self.unread + Counter({suffix: self.sidecars[suffix] for suffix in self.sidecars.keys() & _DATA})
        if self.images and data.total() > self.images:
            raise MixtureError(self._preview(data))
        if self._beside or (self.strays and not self.unread) or (self._problems and not self.unread):
            return FOLDER
        kinds = (self.unread + self.sidecars).most_common(5)
        others = ", ".join(_count(count, f"{f'.{suffix} ' if suffix else ''}file") for suffix, count in kinds)
        found = f", only {others}: sidecars, or files of kinds that are not read" if others else ""
        raise EntryError(f"no images{found} (hidden files do not count)")

    def _form_of_containers(self) -> Form:
        """Return the form that the containers have; tables beside containers with members are sidecars.

        Raises:
            MixtureError: several forms have members, so that none is a sidecar of another.
        """
        forms = [form for form in FORMS if form in self.containers]
        forms = [form for form in forms if form.has_members] or forms
        if len(forms) > 1:
            raise MixtureError(self._mixture())
        return forms[0]

    def _are_sidecars(self) -> bool:
        """Whether all containers are tables that only describe the images beside them."""
        if not self._tables or any(form.summarize is None for form in self.containers):
            return False
        most = MAX_ROWS_PER_IMAGE * self._beside
        return all(
            table.holds == "neither" or (table.holds == "paths" and table.rows <= most) for table in self._summaries()
        )

    def _first_table_holds_images(self) -> bool:
        return any(table.holds == "images" for table in self._summaries(1))

    def _summaries(self, count: int = MAX_TABLES) -> Iterator[TableSummary]:
        for entry in self._tables[:count]:
            form = form_of_file(entry.path)
            if form is not None and form.summarize is not None:
                yield form.summarize(Container.from_entry(self.location, entry), self.options.columns)

    def _mixture(self) -> str:
        forms = [form for form in FORMS if form in self.containers]
        found = [f"{_count(self.containers[form], f'{self._suffixes[form]} file')}" for form in forms]
        found += [f"{_count(count, f'.{suffix} file')} (not read)" for suffix, count in self.unread.most_common(3)]
        if self.images:
            found.append(f"{_count(self.images, 'image')}, such as {self._example}")
        if self._beside > self.images or not (self.images or self.unread or len(forms) > 1):
            found.append(f"{_count(self.strays, 'file')} of unknown kind, such as {self._example}")
        return f"holds {' and '.join(found)}; {self._choices(forms)}"

    def _preview(self, data: Counter[str]) -> str:
        found = [_count(count, f".{suffix} file") for suffix, count in data.most_common(3)]
        images = _count(self.images, "image")
        return (
            f"holds {' and '.join(found)}, which are not read, and only {images}, such as {self._example}; write the "
            f'images as files, .tar or .parquet, or read what is there with archive.form = "{FOLDER.name}"'
        )

    def _choices(self, forms: list[Form]) -> str:
        if not self.is_folder:
            return f"expected a glob that matches files of one form, such as *{self._suffixes[forms[0]]}"
        choices = [f'archive.form = "{form.name}" reads the {self._suffixes[form]} files' for form in forms]
        if self._beside:
            choices.append(f'archive.form = "{FOLDER.name}" reads the images')
        glob = f"{self.location.redacted}/**/*{self._suffixes[forms[0]]}"
        return f'expected one of them: {", ".join(choices)}; or choose by a glob, such as uri = "{glob}"'


@contextmanager
def explained(location: Location) -> Iterator[None]:
    """Turn an EntryError into a SourceError with the location and the expected forms."""
    try:
        yield
    except MixtureError as error:
        raise SourceError(f"{location.redacted}: {error}") from error
    except EntryError as error:
        raise SourceError(f"{location.redacted}: {error}; {expected_forms()}") from error


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


@dataclass(frozen=True, slots=True)
class Files:
    """Lists the files of a folder that belong to an archive, and checks its form when the listing ends.

    Attributes:
        location: the folder.
        options: how it is read.
        form: the form of the archive.
        is_chosen: whether the user named the form, so that other files are passed over.
    """

    location: Location
    options: ReadOptions
    form: Form
    is_chosen: bool = False

    def __call__(self, skipped: Skipped) -> Iterator[Entry]:
        """Yield the files, sorted by path; count all others as skipped.

        Raises:
            SourceError: the folder is no archive of this form.
        """
        contents = Contents(self.location, self.options)
        current = None if self.form.summarize is None else current_files(self.location)
        missing = set(current or ())
        for entry in walk(self.location, skipped, follow_links=self.options.follow_links):
            form = contents.add(entry)
            missing.discard(entry.path)
            is_own = form is self.form and (current is None or entry.path in current)
            if is_own or entry.is_folder:  # A folder that is not entered may hold files of the archive.
                yield entry
            else:
                skipped.add(entry.key)
        for path in sorted(missing):
            yield Entry(path, problem="not found, but the log of the Delta table lists it")
        with explained(self.location):
            if self.is_chosen:
                contents.check_place()
            else:
                contents.check(self.form)
