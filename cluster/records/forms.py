"""The forms that an archive can have, in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cluster.records.base import Lister, ReadOptions, Source
from cluster.records.containers import Archive
from cluster.records.folder import open_folder
from cluster.records.location import Location
from cluster.records.packed_tar import PACKED_SUFFIXES
from cluster.records.parquet import open_tables
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
            as a Parquet table for each tar, are sidecars then.
    """

    name: str
    suffixes: tuple[str, ...]
    opener: Callable[[Archive], Lister]
    has_members: bool = False

    def open(self, location: Location, options: ReadOptions) -> Source:
        """Open the archive at a place.

        Raises:
            SourceError: nothing of this form can be read there.
        """
        return Source(self.name, location.redacted, self.opener(Archive(location, self.suffixes, options)))


FOLDER = Form("folder", (), open_folder)
FORMS = (
    FOLDER,
    Form("tar", (".tar", *PACKED_SUFFIXES), open_tars, has_members=True),
    Form("zip", (".zip",), open_zips, has_members=True),
    Form("parquet", (".parquet", ".pq"), open_tables),
)


def form_of_file(path: str) -> Form | None:
    """Return the form of a container by its name; None if the file is no container."""
    return next((form for form in FORMS if path.lower().endswith(form.suffixes)), None)


def expected_forms() -> str:
    """Describe for a message what an archive can be."""
    *suffixes, last = (suffix for form in FORMS for suffix in form.suffixes)
    return f"expected a folder of images, or a file, a folder or a glob of {', '.join(suffixes)} or {last}"
