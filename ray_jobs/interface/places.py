"""Paths and URLs as callers pass them."""

from __future__ import annotations

import os

PathLike = str | os.PathLike[str]


def as_place(name: str, value: object) -> str:
    """Return a path or URL as text.

    Args:
        name: of the argument.
        value: what was passed.

    Raises:
        TypeError: it is neither text nor an `os.PathLike`.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a path or URL as str or os.PathLike, got {type(value).__name__}")
    return text
