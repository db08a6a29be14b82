"""Tar files (WebDataset, img2dataset): one shard each, streamed once from front to back, never extracted to disk."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, cast

from cluster.fingerprint import fingerprint
from cluster.records.base import EntryError, Lister, Record, Shard, Skipped
from cluster.records.containers import Archive, Container
from cluster.records.members import Member, MemberType, is_record, refusal
from cluster.records.names import printable
from cluster.records.packed_tar import PackingError, open_unpacked
from cluster.records.reading import BUFFER_BYTES
from cluster.records.tar_headers import Header

_DAMAGE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, RecursionError)


def open_tars(archive: Archive) -> Lister:
    """Open tar files as an archive; each is one shard."""
    return partial(archive.shards, partial(_split, max_bytes=archive.options.max_bytes))


def _split(container: Container, skipped: Skipped, *, max_bytes: int) -> Iterator[Shard]:
    del skipped  # Only reading finds what is in a tar.
    yield Shard(fingerprint([container.identity, max_bytes]), None, WholeTar(container, max_bytes))


@dataclass(frozen=True, slots=True)
class WholeTar:
    """All of one tar file."""

    container: Container
    max_bytes: int

    def read(self, *, threads: int, skipped: Skipped) -> Iterator[Record]:
        """See `read_shard`. A tar is read by one thread."""
        del threads
        before = "its first member"
        try:
            with self.container.open() as raw, _open(open_unpacked(raw, self.container.size)) as tar:
                while (header := tar.next()) is not None:
                    tar.members.clear()  # otherwise the library keeps a description of every member
                    if (record := self._record(tar, header, skipped)) is not None:
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

    def _record(self, tar: _Tar, header: tarfile.TarInfo, skipped: Skipped) -> Record | None:
        member = _member(header)
        if not is_record(member, skipped):
            return None
        if reason := refusal(member, self.max_bytes):
            return Record(member.key, None, reason, self.container.name)
        file = cast("IO[bytes]", tar.extractfile(header))
        return Record(member.key, file.read(), None, self.container.name)


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
    return _Tar.open(fileobj=content, mode="r|", bufsize=BUFFER_BYTES, encoding="utf-8", errors="surrogateescape")


def _problem_after_the_end(tar: _Tar) -> str | None:
    """Report data after the end: tars that were concatenated are read up to the end of the first one."""
    rest = cast("IO[bytes]", tar.fileobj).read(BUFFER_BYTES)
    return "more data follows its end-of-archive marker" if rest.strip(b"\0") else None


def _member(header: tarfile.TarInfo) -> Member:
    return Member(header.name, header.size, _type(header))


def _type(header: tarfile.TarInfo) -> MemberType:
    if header.isdir():
        return MemberType.DIRECTORY
    if header.issym() or header.islnk():
        return MemberType.LINK
    # A sparse file can claim any size and have no content.
    return MemberType.FILE if header.isfile() and not header.issparse() else MemberType.SPECIAL
