"""Remove secrets from texts: messages, logs and stored files may quote exceptions, which may quote the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"(://[^\s?]*)\?\S*")
_SECRET_NAME = re.compile(
    r"((CREDENTIAL|PASS(PHRASE|WD|WORD)|SECRET(ACCESS)?(KEY)?|TOKEN)S?"  # These endings are unambiguous.
    r"|(?<![A-Z])((ACCESS|API)?KEYS?|AUTH(ORIZATION)?|BEARER|CONNECTION_STRING|COOKIE|PAT|PRIVATE|SAS|SIGNATURE))"
    r"(?![A-Z])(?!.*_(FILE|PATH|DIR|MODE|SOCK)$)"
)
MIN_LENGTH = 8
"""Shorter values are not treated as secrets: they would match in the middle of words."""
HIDDEN = "***"


def names_a_secret(name: str) -> bool:
    """Return whether an environment variable of this name is likely to contain a secret, not a file, mode or socket."""
    return _SECRET_NAME.search(name.upper()) is not None


def secrets_in(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables whose values are likely secrets."""
    return {name: value for name, value in environment.items() if len(value) >= MIN_LENGTH and names_a_secret(name)}


def without_credentials(text: str) -> str:
    """Return the text without user, password and query string in its URLs."""
    return _QUERY.sub(r"\1", _CREDENTIALS.sub("", text))


def redacted(text: str) -> str:
    """Return the text without credentials in URLs and without the values of environment variables named like secrets.

    The longest values are replaced first, so that no part of one remains. Values are matched literally and as `repr`
    writes them.
    """
    for value in sorted(set(secrets_in(os.environ).values()), key=len, reverse=True):
        text = text.replace(value, HIDDEN).replace(repr(value)[1:-1], HIDDEN)
    return without_credentials(text)
