"""Names of entries: made printable, and told apart from what lies beside images."""

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
    r"""A one-line name that different names never share.

    Control characters, line ends and bytes that are no UTF-8 (surrogates) are escaped as in Python, and so are
    backslashes, which would make an escaped name and a plain one alike.
    """
    return "".join(
        char.encode("unicode_escape").decode() if char == "\\" or unicodedata.category(char) in _UNPRINTABLE else char
        for char in name
    )


def is_hidden(path: str) -> bool:
    """Whether any part of a relative path begins with a dot."""
    return any(part.startswith(".") for part in path.split("/"))


def is_sidecar(path: str) -> bool:
    """Whether the name says that this is something beside the images: a caption, a table, a licence."""
    name = PurePosixPath(path.lower())
    return name.suffix in _SIDECAR_SUFFIXES or name.name in _SIDECAR_NAMES
