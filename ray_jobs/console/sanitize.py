"""Text for terminals and logs: without secrets, and without control characters."""

from __future__ import annotations

import logging
import unicodedata

_CONTROL_CATEGORIES = frozenset({"Cc", "Cs"})


def sanitized(text: str) -> str:
    """Return the text with secrets redacted and control characters escaped, except line ends and tabs."""
    from cluster.secrets import redacted  # Here, because importing `cluster` takes longer than `fewshot --help`.

    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in _CONTROL_CATEGORIES
        else char.encode("unicode_escape").decode()
        for char in redacted(text)
    )


class _Formatter(logging.Formatter):
    """Sanitize log records, their tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return sanitized(super().format(record))


def configure_logging(level: str) -> None:
    """Send log messages to stderr, sanitized.

    Args:
        level: the least level that is shown, such as "INFO".

    Raises:
        ValueError: no such level.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
