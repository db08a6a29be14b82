"""A place in storage, as a value that can be sent to workers and shown in messages."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import fsspec
from fsspec import AbstractFileSystem

from cluster.records.base import EntryError
from cluster.records.reading import with_retries
from cluster.secrets import public_url
from cluster.storage.filesystems import is_s3, open_filesystem
from cluster.storage.objects import absolute_path
from cluster.storage.settings import DEFAULT_STORAGE, Storage


@dataclass(frozen=True, slots=True)
class Location:
    """Where an archive is. Opens its file system in whichever process it is sent to.

    Attributes:
        uri: an fsspec URL, or an absolute path of this machine. May contain credentials, so it is not in the repr.
        storage: how S3 is reached, if this or anything it refers to is there.
    """

    uri: str = field(repr=False)
    storage: Storage = field(repr=False, default=DEFAULT_STORAGE)

    @classmethod
    def parse(cls, uri: str, storage: Storage = DEFAULT_STORAGE) -> Location:
        """Normalise a URL or a path, absolute or relative, so that equal places are equal locations.

        Raises:
            SourceError: the text cannot be a path.
        """
        scheme, separator, path = uri.rpartition("://")
        if not separator or scheme in ("file", "local"):
            uri = absolute_path(path)
        return cls(uri.rstrip("/") or "/", storage)

    @property
    def is_local(self) -> bool:
        """Whether this is a local path."""
        return "://" not in self.uri

    @property
    def scheme(self) -> str:
        """The protocol, "file" for local paths."""
        return "file" if self.is_local else self.uri.partition("://")[0]

    @property
    def redacted(self) -> str:
        """The URL without credentials."""
        return self.uri if self.is_local else public_url(self.uri)

    def is_file(self) -> bool:
        """Whether there is one regular file here, not a folder or a prefix.

        Raises:
            StorageError: storage does not answer.
        """
        if self.is_local:
            return os.path.isfile(self.uri)  # noqa: PTH113 -- also of a path that is too long
        filesystem, path = self.open()
        try:
            return with_retries(lambda: _is_file(filesystem, path), self.redacted)
        except EntryError:
            return False

    def open(self) -> tuple[AbstractFileSystem, str]:
        """Open the file system and return it with the path in it. Listings are not cached: archives grow."""
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
