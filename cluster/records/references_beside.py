"""References of a table that lead to another folder than the others, on whatever storage that is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.records.base import EntryError
from cluster.records.embedded_images import EmbeddedImages
from cluster.records.location import Location
from cluster.records.references import References
from cluster.storage.settings import DEFAULT_STORAGE, Storage

_NAME = re.compile("[0-9a-z]+")
"""Of an object of the other folder: never a path, with which a table could reach what lies elsewhere on its storage."""


@dataclass(frozen=True, slots=True)
class ReferencesBeside:
    """References "MARK:NAME:WORDS" to the objects of a folder, by their names; WORDS are only for readers.

    Names consist of digits and small letters. A reference with any other name is none of these.

    Attributes:
        mark: begins these references and no others, with its colon.
        folder: any fsspec URL.
        storage: how S3 is reached.
    """

    mark: str
    folder: str
    storage: Storage = DEFAULT_STORAGE

    def join(self, own: References | EmbeddedImages, max_bytes: int) -> JoinedReferences:
        """Return references of which some are these, and all others `own`; a larger object is an error."""
        location = Location.parse(self.folder, self.storage)
        return JoinedReferences(own, self.mark, References(location, location.open()[1], max_bytes, start=""))


@dataclass(frozen=True, slots=True)
class JoinedReferences:
    """Reads the objects that references lead to, some of which are in another folder.

    Attributes:
        own: reads all other references.
        mark: begins references to the other folder.
        other: reads the names in these.
    """

    own: References | EmbeddedImages
    mark: str
    other: References

    def resolve(self, reference: str) -> Location:
        """Return the location of a reference, without accessing it.

        Raises:
            EntryError: it is no reference, or may not be followed.
        """
        name = self._name(reference)
        return self.own.resolve(reference) if name is None else self.other.resolve(name)

    def read_all(self, references: Sequence[str], *, threads: int) -> Iterator[bytes | EntryError]:
        """Read objects, in order; for each its content, or the reason why it cannot be read."""
        names = [self._name(reference) for reference in references]
        own = [reference for reference, name in zip(references, names, strict=True) if name is None]
        of_own = self.own.read_all(own, threads=threads)
        of_other = self.other.read_all([name for name in names if name is not None], threads=threads)
        for name in names:
            yield next(of_own if name is None else of_other)

    def _name(self, reference: str) -> str | None:
        """Return the name of an object of the other folder; None if the reference leads elsewhere."""
        if not isinstance(reference, str) or not reference.startswith(self.mark):
            return None
        name, colon, _ = reference.removeprefix(self.mark).partition(":")
        return name if colon and _NAME.fullmatch(name) else None
