"""Text for terminals and logs: without secrets, and without control characters."""

from __future__ import annotations

import logging
import unicodedata

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
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
        level: least level that is shown: "DEBUG", "INFO", "WARNING", "ERROR" or "CRITICAL", in any case.

    Raises:
        ValueError: there is no such level.
    """
    if level.upper() not in LEVELS:
        raise ValueError(f"expected {', '.join(LEVELS[:-1])} or {LEVELS[-1]}, got {level!r}")
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
