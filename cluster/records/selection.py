"""Records selected one by one, by path or URL, such as the labelled examples of a table."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from cluster.fingerprint import fingerprint
from cluster.records.base import EntryError, Record, Shard, Skipped
from cluster.records.embedded_images import EmbeddedImages
from cluster.records.listing import version_of
from cluster.records.location import Location
from cluster.records.reading import ordered_map, with_retries
from cluster.records.references import References
from cluster.storage.settings import DEFAULT_STORAGE, Storage


@dataclass(frozen=True, slots=True)
class Selected:
    """A reference with the version of the object that it leads to.

    Attributes:
        reference: as it was written: a URL, or a path relative to the folder.
        version: size and modification time (or ETag); "" if it cannot be looked up, and reading it gives the reason.
    """

    reference: str
    version: str


class Selection:
    """Looks references up and makes shards of them.

    Args:
        folder: what relative paths are relative to, any fsspec URL.
        max_bytes: a larger object becomes an error record.
        storage: how S3 is reached.
        schemes: schemes that are followed beside the folder's own, see `References`.
        image_column: references are rows of tables, see `EmbeddedImages`, and this is the column of the images; None if
            they are paths and URLs.
    """

    def __init__(
        self,
        folder: str,
        *,
        max_bytes: int = 256 << 20,
        storage: Storage = DEFAULT_STORAGE,
        schemes: Collection[str] = (),
        image_column: str | None = None,
    ) -> None:
        self._location = Location.parse(folder, storage)
        self._max_bytes = max_bytes
        self._schemes = frozenset(schemes)
        self._image_column = image_column

    def look_up(self, references: Sequence[str], *, threads: int = 16) -> list[Selected]:
        """Look up the versions of the objects that references lead to, in order.

        Raises:
            StorageError: storage does not answer, also after retries.
        """
        if self._image_column is not None:
            return self._embedded(references)
        if self._location.is_local:
            return [self._select(reference) for reference in references]
        return list(ordered_map(self._select, references, threads))

    def shard(self, selected: Sequence[Selected]) -> Shard:
        """Return one shard of these records, in order; the key of a record is its reference."""
        contents = [[item.reference, item.version] for item in selected]
        names = tuple(item.reference for item in selected)
        return Shard(fingerprint(["selection", contents]), len(names), _Slice(self._references(), names))

    def _references(self) -> References | EmbeddedImages:
        _, folder = self._location.open()
        references = References(self._location, folder, self._max_bytes, self._schemes, start="")
        return references if self._image_column is None else EmbeddedImages(references, self._image_column)

    def _select(self, reference: str) -> Selected:
        try:
            return Selected(reference, self._version(reference))
        except EntryError:
            return Selected(reference, "")

    def _version(self, reference: str) -> str:
        references = self._references()
        return references.find(reference, _version_at) if isinstance(references, References) else ""

    def _embedded(self, references: Sequence[str]) -> list[Selected]:
        """Identify images in tables by their contents: what the storage knows of a table is about all of its rows."""
        found = self._references().read_all(references, threads=1)
        return [Selected(name, _digest(data)) for name, data in zip(references, found, strict=True)]


def _version_at(place: Location) -> str:
    if place.is_local:
        status = with_retries(lambda: os.stat(place.uri), "a local file")  # noqa: PTH116
        return f"{status.st_size} {status.st_mtime_ns}"
    filesystem, path = place.open()
    info = with_retries(lambda: filesystem.info(path), place.redacted)
    return f"{info.get('size')} {version_of(info)}"


def _digest(data: bytes | EntryError) -> str:
    return "" if isinstance(data, EntryError) else hashlib.blake2b(data, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class _Slice:
    references: References | EmbeddedImages
    names: tuple[str, ...] = field(repr=False)

    def read(self, *, threads: int, skipped: Skipped) -> Iterator[Record]:
        """See `read_shard`."""
        del skipped
        found = self.references.read_all(self.names, threads=threads)
        for name, data in zip(self.names, found, strict=True):
            if isinstance(data, EntryError):
                yield Record(name, None, str(data), "")
            else:
                yield Record(name, data, None, "")
