"""What can be a path or a URL at all."""

from __future__ import annotations

import unicodedata

MAX_LENGTH = 4096


def is_path(text: str) -> bool:
    """Whether a text can lead to a file: no NUL, no half of a character (a lone surrogate), not endless."""
    return len(text) <= MAX_LENGTH and not any(char == "\0" or unicodedata.category(char) == "Cs" for char in text)
