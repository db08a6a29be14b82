"""Small archives for tests, and short ways to read them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cluster.records import Record, Source, open_source, read_shard


def write_folder(root: Path, contents: Mapping[str, bytes]) -> Path:
    """Write files at their paths below a folder."""
    for path, data in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def tar_bytes(members: Iterable[tuple[str, bytes] | tarfile.TarInfo], *, mode: str = "w") -> bytes:
    """A tar archive of files, or of whatever else a header describes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, data = member
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def zip_bytes(members: Iterable[tuple[str | zipfile.ZipInfo, bytes]], *, method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive of files, or of whatever else a record describes. Equal members give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            archive.writestr(info, data, None if isinstance(name, zipfile.ZipInfo) else method)
    return buffer.getvalue()


def records_of(archive: Source | Path | str, **options: Any) -> list[Record]:
    """All records, in order."""
    source = open_source(str(archive), **options) if isinstance(archive, Path | str) else archive
    return [record for shard in source.shards() for record in read_shard(shard)]


def contents_of(archive: Source | Path | str, **options: Any) -> dict[str, bytes | str]:
    """For each key its bytes, or the reason why there are none."""
    records = records_of(archive, **options)
    assert len({record.key for record in records}) == len(records)
    return {record.key: record.error if record.data is None else record.data for record in records}
