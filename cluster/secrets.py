"""Secrets out of texts: what is told, logged or stored may quote an exception, and that may quote its environment."""

from __future__ import annotations

import os
import re

_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"(://[^\s?]*)\?\S*")
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:\w*KEY|KEY_ID|SECRET|TOKEN|PASSWORD|PASSPHRASE|PASSWD|CREDENTIALS?|CONNECTION_STRING|SAS)(?:_|$)", re.I
)
MIN_LENGTH = 8
"""Shorter values are no secrets, and would be found in the middle of words."""
HIDDEN = "***"


def without_credentials(text: str) -> str:
    """The text with user, password and query string taken out of every URL in it."""
    return _QUERY.sub(r"\1", _CREDENTIALS.sub("", text))


def redacted(text: str) -> str:
    """The text without credentials in URLs and without values of environment variables whose names say secret.

    Longest values first, so that no part of one is left behind. Values are looked for as they are and as `repr` writes
    them.
    """
    secrets = {value for name, value in os.environ.items() if len(value) >= MIN_LENGTH and _SECRET_NAME.search(name)}
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, HIDDEN).replace(repr(value)[1:-1], HIDDEN)
    return without_credentials(text)
