"""Names of files for the keys of images: safe on every system, whatever the keys are, and different for each image."""

from __future__ import annotations

import posixpath
import re
import sqlite3
import unicodedata
from collections.abc import Iterable

from cluster.records import content_digest
from fewshot.image_formats import image_format

MAX_BYTES = 200
"""Longest name of a file: most systems allow 255 bytes, some of which suffixes and temporary names take."""
SUFFIXES = {
    "JPEG": ".jpg",
    "AVIF": ".avif",
    "BMP": ".bmp",
    "GIF": ".gif",
    "PNG": ".png",
    "TIFF": ".tif",
    "WebP": ".webp",
    "HEIC": ".heic",
    "HEIF": ".heif",
    "JPEG XL": ".jxl",
}
"""Of image formats. A name without one of these, or `OTHER_SUFFIXES`, gets that of its content."""
OTHER_SUFFIXES = frozenset({".jpeg", ".jpe", ".jfif", ".tiff"})
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
_NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)")


def safe_name(text: str, *, suffix: str = "") -> str:
    """Return a text as the name of one file or folder on any system.

    Args:
        text: of any length, with any characters.
        suffix: to end the name with; it stays whole.

    Returns:
        Unicode in form C, without path separators, control characters and what Windows does not allow; never hidden,
        never empty, at most `MAX_BYTES` long in UTF-8. Different texts may give the same name, see `TakenNames`.
    """
    normal = unicodedata.normalize("NFC", text).encode(errors="backslashreplace").decode()
    name = _UNSAFE.sub("_", normal).strip(" ").rstrip(". ")
    if not name or name.startswith(".") or _RESERVED.match(name):
        name = f"_{name}"
    return _shortened(name, MAX_BYTES - len(suffix.encode())) + suffix


def image_name(key: str, data: bytes | None = None) -> str:
    """Return the name of one file for an image, its folders before it, joined with "_".

    Args:
        key: of the image.
        data: its content, which decides the suffix where the key has none of an image; None leaves the key's.
    """
    plain = "_".join(part for part in key.split("/") if part not in ("", ".", ".."))
    suffix = image_suffix(plain, data)
    return safe_name(plain.removesuffix(suffix), suffix=suffix)


def image_suffix(key: str, data: bytes | None = None) -> str:
    """Return the suffix of an image with its dot: that of its key if images have it, or that of its content, or ""."""
    suffix = posixpath.splitext(key)[1]
    if suffix.lower() in OTHER_SUFFIXES or suffix.lower() in SUFFIXES.values():
        return suffix
    found = None if data is None else image_format(data)
    return SUFFIXES.get(found or "", "")


def tree_path(key: str, *, suffix: str) -> str:
    """Return the path of a file beside an image in a copy of its tree; only parts that lead out of it are changed."""
    parts = [part for part in key.split("/") if part not in ("", ".")] or ["_"]
    safe = ["_" if part == ".." else _shortened(part.replace("\0", "_"), MAX_BYTES) for part in parts]
    return "/".join(safe) + suffix


def xml_text(text: str) -> str:
    """Return a text with U+FFFD for characters that XML cannot hold, not even escaped, such as control characters."""
    return _NOT_XML.sub("\ufffd", text)


class TakenNames:
    """Names that are in use, on disk, so that memory does not grow with their number.

    Args:
        fold: whether names that differ in case alone, or in the form of Unicode, are the same: they are on some
            systems.
    """

    def __init__(self, *, fold: bool = True) -> None:
        self._fold = fold
        self._names = sqlite3.connect("")  # A temporary file, which SQLite removes.
        self._names.execute("CREATE TABLE taken (name TEXT PRIMARY KEY, times INTEGER) WITHOUT ROWID")

    def take(self, path: str) -> str:
        """Take a path, or, if it is in use, the first free one with a number before its suffix."""
        if (times := self._count(path)) == 1:
            return path
        stem, suffix = posixpath.splitext(path)
        while self._count(free := f"{stem}-{times}{suffix}") > 1:  # Perhaps the name of another image.
            times = self._count(path)
        return free

    def close(self) -> None:
        """Forget all names."""
        self._names.close()

    def _count(self, path: str) -> int:
        """Count a use of a path, and return how often it was used."""
        name = unicodedata.normalize("NFC", path).casefold() if self._fold else path
        query = "INSERT INTO taken VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1 RETURNING times"
        return int(self._names.execute(query, (name.encode(errors="surrogateescape"),)).fetchone()[0])


def folder_names(classes: Iterable[str], *, others: Iterable[str] = ()) -> dict[str, str]:
    """Return the name of a folder for each class: different ones, also where case does not count.

    Args:
        classes: no two equal.
        others: folders that are no class's.
    """
    taken = TakenNames()
    try:
        for name in others:
            taken.take(name)
        return {name: taken.take(safe_name(name)) for name in classes}
    finally:
        taken.close()


def _shortened(name: str, max_bytes: int) -> str:
    """Return the name, or its beginning and a digest of all of it."""
    encoded = name.encode(errors="surrogateescape")
    if len(encoded) <= max_bytes:
        return name
    mark = f"-{content_digest(encoded)[:12]}"
    return encoded[: max_bytes - len(mark)].decode(errors="ignore").rstrip(". ") + mark
