"""What reaches a terminal or a log: without secrets, and without characters that a terminal obeys."""

from __future__ import annotations

import logging
import unicodedata

from cluster.secrets import redacted

_OBEYED = frozenset({"Cc", "Cs"})


def sanitized(text: str) -> str:
    """The text without secrets; control characters other than line ends and tabs are written as escapes."""
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in _OBEYED else char.encode("unicode_escape").decode()
        for char in redacted(text)
    )


class _Formatter(logging.Formatter):
    """Every record in words that may be told, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return sanitized(super().format(record))


def configure_logging(level: str) -> None:
    """Send logs to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
