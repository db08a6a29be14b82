"""Labelled images by reference, and checks of their paths."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath

MAX_LENGTH = 4096
"""Maximum number of characters of a path or URL."""


@dataclass(frozen=True, slots=True)
class Example:
    """A reference to an image, and its label.

    Attributes:
        image: path or URL as written, but for "." and empty parts of a path ("./a.jpg" is "a.jpg": one image has one
            name); or, for an image in a cell of a table, "<table>#<row>" with rows from 1. "" adds a class to the label
            space without an example.
        label: the class, normalised to Unicode NFC without surrounding white space, so that a word typed on two systems
            is one class.
        name: the name of the class in prompts; None derives it from the label.
        description: a sentence about the class for prompts; None if there is none.
        split: the split that a table has it in, "" for a blank cell; None if the table has no splits.
    """

    image: str
    label: str
    name: str | None = None
    description: str | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        """Normalise the label and the path."""
        object.__setattr__(self, "image", plain_path(self.image))
        object.__setattr__(self, "label", unicodedata.normalize("NFC", self.label).strip())


def plain_path(path: str) -> str:
    """Return a path without "." and empty parts; a URL, and a path with nothing else in it, is returned as it is."""
    has_none = "./" not in path and "//" not in path and not path.endswith("/.")
    return path if has_none or ":" in path.partition("/")[0] else str(PurePosixPath(path))


def is_path(text: str) -> bool:
    """Return whether a text can be a path or URL: without NUL and lone surrogates, and not too long."""
    return len(text) <= MAX_LENGTH and not any(char == "\0" or unicodedata.category(char) == "Cs" for char in text)


def relative_path_problem(path: str) -> str | None:
    """Return why a text is not a relative path inside a folder, with forward slashes; None if it is one."""
    if not path.strip() or not is_path(path):
        return "is not a valid path"
    if "\\" in path or re.match(r"[A-Za-z][A-Za-z0-9+.\-]*:", path) or PurePosixPath(path).is_absolute():
        return "must be relative, with forward slashes"
    return "must not contain '..'" if ".." in PurePosixPath(path).parts else None
