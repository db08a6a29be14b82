"""One labelled image, by reference."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath

MAX_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class Example:
    """An image, named by where it lies, and its label.

    Attributes:
        image: path or URL as it was written; "" brings a class into the label space without an example of it.
        label: the class. Unicode NFC without surrounding white space, whatever was given: the same word typed on two
            systems is one class.
        name: what people call the class, for prompts; None derives it from the label.
        description: a sentence about the class, for prompts; None if there is none.
    """

    image: str
    label: str
    name: str | None = None
    description: str | None = None

    def __post_init__(self) -> None:
        """Normalise the label."""
        object.__setattr__(self, "label", unicodedata.normalize("NFC", self.label).strip())


def is_path(text: str) -> bool:
    """Whether a text can lead to a file: no NUL, no half of a character (a lone surrogate), not endless."""
    return len(text) <= MAX_LENGTH and not any(char == "\0" or unicodedata.category(char) == "Cs" for char in text)


def relative_path_problem(path: str) -> str | None:
    if not path.strip() or not is_path(path):
        return "is no path"
    if "\\" in path or re.match(r"[A-Za-z][A-Za-z0-9+.\-]*:", path) or PurePosixPath(path).is_absolute():
        return "must be relative, with forward slashes"
    return "leaves the folder" if ".." in PurePosixPath(path).parts else None
