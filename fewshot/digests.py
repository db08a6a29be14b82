"""Digests inside stored objects, by which a reader finds bits that changed in storage.

There are two forms, and equal contents have equal bytes in both.

* *Sealed bytes* hold the digest of all their other bytes: in the metadata of a Parquet or safetensors file, or in a
  comment. The writer leaves a placeholder of the same length in its place, so every format that has room for a text can
  be sealed, and other programs read the file as before.
* *Sealed JSON* has a key `digest` over its other keys and values, so that it may be formatted anew.

A digest protects against damage, not against an attacker, who could compute it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fewshot.errors import DataError

PREFIX = "blake2b:"
DIGITS = 32
PLACEHOLDER = PREFIX + DIGITS * "0"
"""Stands for the digest until `seal` fills it in."""
KEY = "digest"
"""Of the digest in sealed JSON."""
_MARK = PREFIX.encode()


class DigestError(DataError):
    """A stored object does not have the content that was written, or has no digest."""


def digest(data: bytes) -> str:
    """Return the digest of some bytes: "blake2b:" and 32 hexadecimal digits."""
    return PREFIX + hashlib.blake2b(data, digest_size=DIGITS // 2).hexdigest()


def seal(data: bytes) -> bytes:
    """Fill the digest of all other bytes into the last `PLACEHOLDER`.

    Raises:
        ValueError: the last digest is no placeholder, or there is none.
    """
    start = data.rfind(_MARK)
    if data[start : start + len(PLACEHOLDER)] != PLACEHOLDER.encode():
        raise ValueError("the data to seal has no placeholder for its digest, or another digest behind it")
    return data[:start] + digest(data).encode() + data[start + len(PLACEHOLDER) :]


def check_seal(data: bytes) -> None:
    """Check that sealed bytes are those that were written, every one of them.

    Raises:
        DigestError: they are not, or have no digest.
    """
    start = data.rfind(_MARK)
    if start < 0:
        raise DigestError("it has no digest: it is damaged, or from an older version of fewshot")
    view, end = memoryview(data), start + len(PLACEHOLDER)
    found = hashlib.blake2b(view[:start], digest_size=DIGITS // 2)
    found.update(PLACEHOLDER.encode())
    found.update(view[end:])
    if data[start:end] != PREFIX.encode() + found.hexdigest().encode():
        raise DigestError("its content does not match its digest")


def check_digest(data: bytes, expected: object) -> None:
    """Check bytes whose digest is stored elsewhere.

    Args:
        data: the bytes.
        expected: from `digest`.

    Raises:
        DigestError: they are not those that were written.
    """
    if digest(data) != expected:
        raise DigestError("its content does not match its digest")


def seal_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON values by key, with their digest as the last one.

    Raises:
        ValueError: a number is not finite.
    """
    plain = {key: value for key, value in content.items() if key != KEY}
    return {**plain, KEY: _json_digest(plain)}


def check_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """Check a JSON object that was parsed.

    Returns:
        it without its digest.

    Raises:
        DigestError: it is not what was written, or has no digest.
    """
    if KEY not in content:
        raise DigestError("it has no digest: it is damaged, or from an older version of fewshot")
    plain = {key: value for key, value in content.items() if key != KEY}
    try:
        found = _json_digest(plain)
    except ValueError as error:
        raise DigestError(f"it has a number that JSON does not have: {error}") from error
    if content[KEY] != found:
        raise DigestError("its content does not match its digest")
    return plain


def _json_digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return digest(canonical.encode())
