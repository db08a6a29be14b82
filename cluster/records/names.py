"""Names of entries: make them printable, and recognise hidden files, sidecars and archives."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

_TEXTS = {".txt", ".md", ".rst", ".log", ".caption", ".cap", ".cls", ".html", ".htm", ".pdf"}
_RECORDS = {".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".toml", ".ini"}
_TABLES = {".npy", ".npz", ".parquet", ".pq", ".arrow", ".feather", ".db", ".sqlite", ".idx", ".index"}
_TOOLS = {".md5", ".sha256", ".py", ".ipynb", ".sh"}
_SIDECAR_SUFFIXES = frozenset(_TEXTS | _RECORDS | _TABLES | _TOOLS)
_SIDECAR_NAMES = frozenset({"_success", "license", "licence", "readme", "notice", "thumbs.db", "desktop.ini"})
_PACKED_SUFFIXES = frozenset({
    ".zip", ".tar", ".7z", ".rar", ".gz", ".tgz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".zst", ".tzst", ".lz4", ".z",
})  # fmt: skip
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def printable(name: str) -> str:
    r"""Return a one-line name; different names have different printable names.

    Control characters, line ends, bytes that are not UTF-8 (surrogates) and backslashes are escaped as in Python.
    """
    return "".join(
        char.encode("unicode_escape").decode() if char == "\\" or unicodedata.category(char) in _UNPRINTABLE else char
        for char in name
    )


def is_hidden(path: str) -> bool:
    """Whether any component of a relative path begins with a dot."""
    return any(part.startswith(".") for part in path.split("/"))


def is_sidecar(path: str) -> bool:
    """Whether the name is that of a file beside images: a caption, a table, a licence."""
    name = PurePosixPath(path.lower())
    return name.suffix in _SIDECAR_SUFFIXES or name.name in _SIDECAR_NAMES


def is_packed(path: str) -> bool:
    """Whether the name is that of an archive or of a compressed file."""
    return PurePosixPath(path.lower()).suffix in _PACKED_SUFFIXES
