"""The content of weight files, as a name. Importing this loads no torch."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


def file_digest(path: Path) -> str:
    """32 hexadecimal digits of a file's content. Weights may be gigabytes: they are read once while they stay."""
    status = path.stat()
    return _digest_of_version(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest_of_version(path: Path, size: int, mtime_ns: int) -> str:
    del size, mtime_ns
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
