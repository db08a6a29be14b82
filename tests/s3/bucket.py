"""A bucket on the tests' S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cluster import Storage, Store
from cluster.storage.filesystems import open_filesystem
from tests.s3.proxy import Plan, Proxy, fault_proxy
from tests.s3.server import S3Server


@dataclass(frozen=True)
class Bucket:
    """A bucket with its connection settings.

    Attributes:
        server: of the bucket.
        name: of the bucket.
        storage: connection to the server, perhaps through a proxy.
    """

    server: S3Server
    name: str
    storage: Storage

    @classmethod
    def create(cls, server: S3Server, name: str) -> Bucket:
        bucket = cls(server, name, Storage(endpoint=server.endpoint))
        filesystem, _ = open_filesystem(bucket.url(), bucket.storage)
        filesystem.call_s3("create_bucket", Bucket=name)
        return bucket

    def url(self, path: str = "") -> str:
        return f"s3://{self.name}/{path}".rstrip("/")

    def store(self, path: str = "") -> Store:
        return Store(self.url(path), storage=self.storage)

    def upload(self, folder: Path, path: str) -> str:
        """Copy the files of a folder to the bucket, and return the URL of the copy."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.store(path).put(file.relative_to(folder).as_posix(), file.read_bytes())
        return self.url(path)

    @contextmanager
    def through(self, plan: Plan | None = None) -> Iterator[tuple[Bucket, Proxy]]:
        """Provide the same bucket behind a proxy, and the proxy."""
        with fault_proxy(self.server.endpoint, plan) as proxy:
            yield replace(self, storage=replace(self.storage, endpoint=proxy.endpoint)), proxy
