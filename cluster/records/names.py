"""Names of entries: make them printable, and recognise hidden files and sidecars."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

_TEXTS = {".txt", ".md", ".rst", ".log", ".caption", ".cap", ".cls", ".html", ".htm", ".pdf"}
_RECORDS = {".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".toml", ".ini"}
_TABLES = {".npy", ".npz", ".parquet", ".arrow", ".feather", ".db", ".sqlite", ".idx", ".index"}
_TOOLS = {".md5", ".sha256", ".py", ".ipynb", ".sh"}
_SIDECAR_SUFFIXES = frozenset(_TEXTS | _RECORDS | _TABLES | _TOOLS)
_SIDECAR_NAMES = frozenset({"_success", "license", "licence", "readme", "notice", "thumbs.db", "desktop.ini"})
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
