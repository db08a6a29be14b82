"""A place in storage, as a value that can be sent to workers and shown to people."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import fsspec
from fsspec import AbstractFileSystem

from cluster.records.base import EntryError
from cluster.records.reading import patiently
from cluster.secrets import without_credentials
from cluster.storage.filesystems import is_s3, open_filesystem
from cluster.storage.settings import DEFAULT_STORAGE, Storage


@dataclass(frozen=True, slots=True)
class Location:
    """Where an archive is. Opens its file system anew wherever it is sent to.

    Attributes:
        uri: an fsspec URL, or an absolute path of this machine. May hold credentials, so it is not in the repr.
        storage: how S3 is reached, if this or anything it refers to lies there.
    """

    uri: str = field(repr=False)
    storage: Storage = field(repr=False, default=DEFAULT_STORAGE)

    @classmethod
    def parse(cls, uri: str, storage: Storage = DEFAULT_STORAGE) -> Location:
        """Normalise a URL or a path, absolute or relative, so that equal places are equal locations."""
        scheme, separator, path = uri.rpartition("://")
        if not separator or scheme in ("file", "local"):
            uri = str(Path(path).expanduser().absolute())
        return cls(uri.rstrip("/") or "/", storage)

    @property
    def is_local(self) -> bool:
        """Whether this is a path of this machine."""
        return "://" not in self.uri

    @property
    def scheme(self) -> str:
        """The protocol, "file" for local paths."""
        return "file" if self.is_local else self.uri.partition("://")[0]

    @property
    def shown(self) -> str:
        """The URL without credentials."""
        return self.uri if self.is_local else without_credentials(self.uri)

    def is_file(self) -> bool:
        """Whether there is one regular file here, not a folder or a prefix.

        Raises:
            StorageError: storage does not answer.
        """
        if self.is_local:
            return Path(self.uri).is_file()
        filesystem, path = self.open()
        try:
            return patiently(lambda: _is_file(filesystem, path), self.shown)
        except EntryError:
            return False

    def open(self) -> tuple[AbstractFileSystem, str]:
        """The file system, and this place's path in it. Listings are never cached: archives grow."""
        if self.is_local:
            return fsspec.filesystem("file"), self.uri
        return open_filesystem(self.uri, self.storage)


def _is_file(filesystem: AbstractFileSystem, path: str) -> bool:
    if not is_s3(filesystem):
        return bool(filesystem.info(path)["type"] == "file")
    bucket, _, key = path.partition("/")
    if key:  # One request, where `info` would go on and list what is below.
        filesystem.call_s3("head_object", Bucket=bucket, Key=key)
    return bool(key)
