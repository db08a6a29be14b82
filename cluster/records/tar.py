"""Tar files (WebDataset, img2dataset): one shard each, streamed once from front to back, never extracted to disk."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import IO, cast

from cluster.fingerprint import fingerprint
from cluster.records.base import EntryError, Lister, ReadOptions, Record, Shard, Skipped
from cluster.records.containers import Archive, Container
from cluster.records.members import Member, MemberType, Samples, is_record, refusal
from cluster.records.names import printable
from cluster.records.packed_tar import PackingError, open_unpacked
from cluster.records.streams import BUFFER_BYTES, Stream
from cluster.records.tar_headers import Header
from cluster.records.tar_links import EarlierMembers

_DAMAGE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, RecursionError)


_PIECE_BYTES = 1 << 16
"""Bytes that the library holds of the stream. It copies what is left of them for each member, so few are better."""

RULES = 3
"""Version of what becomes of the members of a tar. It is part of the names of shards, as only reading fills them."""


def open_tars(archive: Archive) -> Lister:
    """Open tar files as an archive; each is one shard."""
    return partial(archive.shards, partial(_split, options=archive.options))


def _split(container: Container, skipped: Skipped, *, options: ReadOptions) -> Iterator[Shard]:
    del skipped  # Only reading finds what is in a tar.
    payload = WholeTar(container, options.max_bytes, options.component)
    yield Shard(fingerprint([RULES, container.identity, options.max_bytes, options.component]), None, payload)


@dataclass(frozen=True, slots=True)
class WholeTar:
    """All of one tar file.

    Attributes:
        container: the tar.
        max_bytes: a larger member is not read.
        component: which members count as images, see `is_entry`.
    """

    container: Container
    max_bytes: int
    component: str | None = None

    def read(self, *, threads: int, skipped: Skipped) -> Iterator[Record]:
        """See `read_shard`. A tar is read by one thread."""
        del threads
        before = "its first member"
        try:
            with self._open_ahead() as raw, _open(self.unpack(raw)) as tar:
                members = _Members(self, skipped)
                with closing(members.earlier):
                    while (header := tar.next()) is not None:
                        tar.members.clear()  # otherwise the library keeps a description of every member
                        if (record := members.record(tar, header)) is not None:
                            yield record
                        before = f"what follows {printable(header.name)}"
                problem = tar.problem() or _problem_after_the_end(tar)
        except PackingError as error:
            yield Record(self.container.name, None, str(error), self.container.name)
            return
        except _DAMAGE as error:
            problem = str(error) or type(error).__name__
        except EntryError as error:
            problem = str(error)
        if problem is not None:
            name = self.container.name
            yield Record(name, None, f"{name} is damaged or cut off, {before} cannot be read: {problem}", name)

    def _open_ahead(self) -> Stream:
        stream = self.container.open()
        stream.read_ahead([(0, self.container.size)])
        return stream

    def unpack(self, raw: io.BufferedReader) -> IO[bytes]:
        """Return the content of the opened tar as a stream; the tar itself if it is not packed."""
        return open_unpacked(raw, self.container.size)


class _Members:
    """Makes records of the members of a tar, in their order."""

    def __init__(self, tar: WholeTar, skipped: Skipped) -> None:
        self._tar, self._skipped = tar, skipped
        self.earlier = EarlierMembers(tar.container.open, tar.unpack)
        self._samples = Samples(tar.component)

    def record(self, tar: _Tar, header: tarfile.TarInfo) -> Record | None:
        """Return the record of the next member; None if it becomes none."""
        member = _member(header)
        if member.type is MemberType.FILE and not member.points_outside:
            self.earlier.add(header)
        if not is_record(member, self._skipped, self._tar.component):
            return None
        source, max_bytes = self._tar.container.name, self._tar.max_bytes
        if reason := refusal(member, max_bytes) or self._samples.second_image(member.name):
            return Record(member.key, None, reason, source)
        try:
            return Record(member.key, self._data(tar, header), None, source)
        except EntryError as error:
            return Record(member.key, None, str(error), source)

    def _data(self, tar: _Tar, header: tarfile.TarInfo) -> bytes:
        if header.islnk():
            return self.earlier.read(header, self._tar.max_bytes)
        return cast("IO[bytes]", tar.extractfile(header)).read()


class _Tar(tarfile.TarFile):
    """A tar file that records why it ended."""

    tarinfo = Header
    members: list[tarfile.TarInfo]
    ending: Exception | None = None

    def problem(self) -> str | None:
        """Return what is wrong with the last header; None if it is the end-of-archive marker."""
        if isinstance(self.ending, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
            return None
        return str(self.ending) if str(self.ending) != "empty header" else "no end-of-archive marker"


def _open(content: IO[bytes]) -> _Tar:
    """Open as a stream: each member is passed once, a large one is skipped block by block."""
    return _Tar.open(fileobj=content, mode="r|", bufsize=_PIECE_BYTES, encoding="utf-8", errors="surrogateescape")


def _problem_after_the_end(tar: _Tar) -> str | None:
    """Report data after the end: tars that were concatenated are read up to the end of the first one."""
    rest = cast("IO[bytes]", tar.fileobj).read(BUFFER_BYTES)
    return "more data follows its end-of-archive marker" if rest.strip(b"\0") else None


def _member(header: tarfile.TarInfo) -> Member:
    return Member(header.name, header.size, _type(header))


def _type(header: tarfile.TarInfo) -> MemberType:
    if header.isdir():
        return MemberType.DIRECTORY
    if header.islnk():
        return MemberType.HARD_LINK
    if header.issym():
        return MemberType.LINK
    # A sparse file can claim any size and have no content.
    return MemberType.FILE if header.isfile() and not header.issparse() else MemberType.SPECIAL
