"""Records selected one by one, by path or URL, such as the labelled examples of a table."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from cluster.errors import ChangedError
from cluster.fingerprint import fingerprint
from cluster.records.base import EntryError, Record, Shard, Skipped
from cluster.records.embedded_images import EmbeddedImages
from cluster.records.listing import version_of
from cluster.records.location import Location
from cluster.records.names import printable
from cluster.records.reading import CHANGED, ordered_map, with_retries
from cluster.records.references import References
from cluster.records.references_beside import JoinedReferences, ReferencesBeside
from cluster.storage.settings import DEFAULT_STORAGE, Storage

THREADS = 16
"""Objects that are looked up or read at a time where storage is remote."""


def content_digest(data: bytes) -> str:
    """Return 32 hexadecimal digits that stand for a content: equal ones, equal bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Selected:
    """A reference with the version of the object that it leads to.

    Attributes:
        reference: as it was written: a URL, or a path relative to the folder.
        version: size and modification time (or ETag), or the digest; "" if it cannot be looked up, and reading it gives
            the reason.
        size: bytes that reading must give; None accepts any number.
        digest: of the content that reading must give, "" if it must be unreadable; None accepts any content.
        key: of the record; None for the reference.
    """

    reference: str
    version: str = ""
    size: int | None = None
    digest: str | None = None
    key: str | None = None

    @classmethod
    def by_content(cls, reference: str, digest: str, *, key: str | None = None) -> Selected:
        """Return a reference that is identified by its content."""
        return cls(reference, digest, digest=digest, key=key)

    @property
    def name(self) -> str:
        """Key of the record."""
        return self.reference if self.key is None else self.key

    def is_unchanged(self, data: bytes) -> bool:
        """Return whether these bytes may be what was looked up."""
        return self.size in (None, len(data)) and (self.digest is None or self.digest == content_digest(data))


class Selection:
    """Looks references up and makes shards of them.

    Args:
        folder: what relative paths are relative to, any fsspec URL.
        max_bytes: a larger object becomes an error record.
        storage: how S3 is reached.
        schemes: schemes that are followed beside the folder's own, see `References`.
        image_column: references are rows of tables, see `EmbeddedImages`, and this is the column of the images; None if
            they are paths and URLs.
        beside: references that lead to another folder, whatever the others are; None: there are none.
    """

    def __init__(
        self,
        folder: str,
        *,
        max_bytes: int = 256 << 20,
        storage: Storage = DEFAULT_STORAGE,
        schemes: Collection[str] = (),
        image_column: str | None = None,
        beside: ReferencesBeside | None = None,
    ) -> None:
        self._location = Location.parse(folder, storage)
        self._max_bytes = max_bytes
        self._schemes = frozenset(schemes)
        self._image_column = image_column
        self._beside = beside

    def look_up(self, references: Sequence[str], *, threads: int = THREADS) -> list[Selected]:
        """Look up the versions of the objects that references lead to, in order.

        Raises:
            StorageError: storage does not answer, also after retries.
        """
        if self._image_column is not None or self._beside is not None:
            return self._by_content(references)
        if self._location.is_local:
            return [self._select(reference) for reference in references]
        return list(ordered_map(self._select, references, threads))

    def read(self, references: Sequence[str]) -> Iterator[Record]:
        """Read the objects that references lead to, in order, whatever their version is.

        Raises:
            StorageError: storage does not answer, also after retries.
        """
        selected = tuple(Selected(reference) for reference in references)
        return _Slice(self._references(), selected).read(threads=THREADS, skipped=Skipped())

    def locate(self, reference: str) -> Location | None:
        """Return where a reference leads to, without accessing it; None if it leads nowhere."""
        try:
            return self._references().resolve(reference)
        except EntryError:
            return None

    def shard(self, selected: Sequence[Selected]) -> Shard:
        """Return one shard of these records, in order, named after their keys and versions.

        Reading the shard raises ChangedError where an object is no longer what was looked up.
        """
        contents = [[item.name, item.version] for item in selected]
        return Shard(fingerprint(["selection", contents]), len(selected), _Slice(self._references(), tuple(selected)))

    def _references(self) -> References | EmbeddedImages | JoinedReferences:
        _, folder = self._location.open()
        references = References(self._location, folder, self._max_bytes, self._schemes, start="")
        own = references if self._image_column is None else EmbeddedImages(references, self._image_column)
        return own if self._beside is None else self._beside.join(own, self._max_bytes)

    def _select(self, reference: str) -> Selected:
        try:
            return self._looked_up(reference)
        except EntryError:
            return Selected(reference)

    def _looked_up(self, reference: str) -> Selected:
        references = self._references()
        if not isinstance(references, References):
            return Selected(reference)
        version, size = references.find(reference, _version_at)
        return Selected(reference, version, size=size)

    def _by_content(self, references: Sequence[str]) -> list[Selected]:
        """Identify images by their contents, as those in tables: storage knows a table, and not its rows."""
        found = self._references().read_all(references, threads=1)
        return [
            Selected(name) if isinstance(data, EntryError) else Selected.by_content(name, content_digest(data))
            for name, data in zip(references, found, strict=True)
        ]


def _version_at(place: Location) -> tuple[str, int | None]:
    """Return the version of an object and, if it is local, its size."""
    if place.is_local:
        status = with_retries(lambda: os.stat(place.uri), "a local file")  # noqa: PTH116
        return f"{status.st_size} {status.st_mtime_ns}", status.st_size
    filesystem, path = place.open()
    info = with_retries(lambda: filesystem.info(path), place.redacted)
    return f"{info.get('size')} {version_of(info)}", None


@dataclass(frozen=True, slots=True)
class _Slice:
    references: References | EmbeddedImages | JoinedReferences
    selected: tuple[Selected, ...] = field(repr=False)

    def read(self, *, threads: int, skipped: Skipped) -> Iterator[Record]:
        """See `read_shard`."""
        del skipped
        found = self.references.read_all([item.reference for item in self.selected], threads=threads)
        yield from map(_record, self.selected, found)


def _record(item: Selected, data: bytes | EntryError) -> Record:
    if isinstance(data, EntryError):
        if item.digest:  # As a record with a reason it would stand for the content that was there before.
            raise ChangedError(f"{printable(item.reference)} {CHANGED} ({data})")
        return Record(item.name, None, str(data), "")
    if not item.is_unchanged(data):
        raise ChangedError(f"{printable(item.reference)} {CHANGED}")
    return Record(item.name, data, None, "")
