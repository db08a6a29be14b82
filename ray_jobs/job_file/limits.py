"""Values of job files that are too deep or too long for people, and for the programs that walk through them."""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 16
"""Tables and lists within each other. Job files have four."""
MAX_SHOWN = 200
"""Characters of a value that a message shows."""


def is_deep(value: Any) -> bool:
    """Whether tables and lists are nested deeper than `MAX_DEPTH`; looked at level by level, without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [part for part in level if isinstance(part, dict | list)]
        if not containers:
            return False
        level = [item for part in containers for item in _items(part)]
    return True


def shown(value: Any) -> str:
    """A value as it is written in Python, cut short."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _items(part: dict[str, Any] | list[Any]) -> list[Any]:
    return list(part.values()) if isinstance(part, dict) else part
