"""The forms that an archive can have, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.records.base import Lister, ReadOptions, Skipped, Source
from cluster.records.columns import Columns
from cluster.records.containers import Archive, Container
from cluster.records.folder import open_folder
from cluster.records.list_rows import LIST_SUFFIXES
from cluster.records.listing import Entry
from cluster.records.location import Location
from cluster.records.packed_tar import PACKED_SUFFIXES
from cluster.records.parquet import TableSummary, open_tables, summarize_table
from cluster.records.path_list import open_lists
from cluster.records.patterns import open_glob
from cluster.records.tar import open_tars
from cluster.records.zip import open_zips


@dataclass(frozen=True, slots=True)
class Form:
    """A form of archive.

    Attributes:
        name: what `Source.kind` is.
        suffixes: of its container files, in lower case; none where every file is an entry itself.
        opener: returns the function that lists an archive of this form; may raise SourceError.
        has_members: whether its containers hold images as named members. Containers of other forms beside them, such
            as a Parquet table for each tar, are sidecars then, unless they hold images.
        summarize: looks into a container, which may be a sidecar of images; None where it cannot be one.
        is_named: whether its files count only if the archive's URL ends as they do; in folders they are sidecars.
    """

    name: str
    suffixes: tuple[str, ...]
    opener: Callable[[Archive], Lister]
    has_members: bool = False
    summarize: Callable[[Container, Columns], TableSummary] | None = None
    is_named: bool = False

    def holds(self, path: str) -> bool:
        """Whether the name is that of a container of this form."""
        return bool(self.suffixes) and path.lower().endswith(self.suffixes)

    def open(self, location: Location, options: ReadOptions, files: Callable[[Skipped], Iterator[Entry]]) -> Source:
        """Open the archive at a place.

        Args:
            location: a folder, a file, or a glob.
            options: how it is read.
            files: see `Archive`.

        Raises:
            SourceError: nothing of this form can be read there.
        """
        return Source(self.name, location.redacted, self.opener(Archive(location, self.suffixes, options, files)))


FOLDER = Form("folder", (), open_folder)
GLOB = Form("glob", (), open_glob)
LIST = Form("list", LIST_SUFFIXES, open_lists, is_named=True)
FORMS = (
    FOLDER,
    GLOB,
    Form("tar", (".tar", *PACKED_SUFFIXES), open_tars, has_members=True),
    Form("zip", (".zip",), open_zips, has_members=True),
    Form("parquet", (".parquet", ".pq"), open_tables, summarize=summarize_table),
    LIST,
)
_SUFFIXES = tuple(suffix for form in FORMS if not form.is_named for suffix in form.suffixes)


def form_of_file(path: str) -> Form | None:
    """Return the form of a container by its name, wherever it is; None if the file is no container."""
    if not path.lower().endswith(_SUFFIXES):
        return None
    return next(form for form in FORMS if form.holds(path) and not form.is_named)


def is_list(path: str) -> bool:
    """Whether a file is a list of images, if an archive's URL names it; or a glob, if it matches lists."""
    return LIST.holds(path)


def expected_forms() -> str:
    """Describe for a message what an archive can be."""
    *suffixes, last = _SUFFIXES
    containers = f"a file, a folder or a glob of {', '.join(suffixes)} or {last}"
    lists = f"a list of paths or URLs ({', '.join(LIST.suffixes)})"
    return f"expected a folder of images, or {containers}, or a glob of images, or {lists}"
