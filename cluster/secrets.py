"""Secrets out of texts: what is told, logged or stored may quote an exception, and that may quote its environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"(://[^\s?]*)\?\S*")
_SECRET_NAME = re.compile(
    r"((CREDENTIAL|PASS(PHRASE|WD|WORD)|SECRET(ACCESS)?(KEY)?|TOKEN)S?"  # Nothing else ends like these.
    r"|(?<![A-Z])((ACCESS|API)?KEYS?|AUTH(ORIZATION)?|BEARER|CONNECTION_STRING|COOKIE|PAT|PRIVATE|SAS|SIGNATURE))"
    r"(?![A-Z])(?!.*_(FILE|PATH|DIR|MODE|SOCK)$)"
)
MIN_LENGTH = 8
"""Shorter values are no secrets, and would be found in the middle of words."""
HIDDEN = "***"


def names_a_secret(name: str) -> bool:
    """Whether an environment variable of this name is likely to hold a secret; files, modes and sockets are none."""
    return _SECRET_NAME.search(name.upper()) is not None


def secrets_in(environment: Mapping[str, str]) -> dict[str, str]:
    """The values that are secrets, by the names of their variables."""
    return {name: value for name, value in environment.items() if len(value) >= MIN_LENGTH and names_a_secret(name)}


def without_credentials(text: str) -> str:
    """The text with user, password and query string taken out of every URL in it."""
    return _QUERY.sub(r"\1", _CREDENTIALS.sub("", text))


def redacted(text: str) -> str:
    """The text without credentials in URLs and without values of environment variables whose names say secret.

    Longest values first, so that no part of one is left behind. Values are looked for as they are and as `repr` writes
    them.
    """
    for value in sorted(set(secrets_in(os.environ).values()), key=len, reverse=True):
        text = text.replace(value, HIDDEN).replace(repr(value)[1:-1], HIDDEN)
    return without_credentials(text)
