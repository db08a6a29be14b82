"""Limits on job files: larger ones are refused before anything walks through them."""

from __future__ import annotations

import re
from typing import Any

MAX_BYTES = 1 << 20
MAX_DEPTH = 16
"""Tables and lists within each other; job files have four."""
MAX_LINES = 10_000
"""Lines that are searched for the position of a mistake."""
MAX_MISTAKES = 50
"""Mistakes that are reported of a section, and sections that are read."""
MAX_VALUE_CHARS = 200
"""Characters of a value that a message shows."""


def is_deep(value: Any) -> bool:
    """Return whether tables and lists are nested deeper than `MAX_DEPTH`, level by level instead of by recursion."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [part for part in level if isinstance(part, dict | list)]
        if not containers:
            return False
        level = [item for part in containers for item in _items(part)]
    return True


def shortened(value: Any) -> str:
    """Return a value as Python writes it, without secrets, cut to `MAX_VALUE_CHARS`."""
    from cluster.secrets import redacted  # Here, because importing `cluster` takes longer than `fewshot schema`.

    text = redacted(repr(value))
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}…"


def key_text(name: str) -> str:
    """Return a key as TOML writes it: as it is, or quoted and escaped; cut to `MAX_VALUE_CHARS`."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name) else shortened(name)


def _items(part: dict[str, object] | list[object]) -> list[object]:
    return list(part.values()) if isinstance(part, dict) else part
