"""Fingerprints of values: a hash of everything that determines an artefact, for use in its path."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

_AS_THEY_ARE = frozenset({type(None), bool, int, str})


def fingerprint(value: Any) -> str:
    """Hash a value; equal values have equal fingerprints, in every process and on every machine.

    Args:
        value: None, booleans, integers, finite floats, strings, paths, dataclasses, and lists, tuples and
            string-keyed mappings of these. The order of keys does not matter, the order of a list does; a tuple
            counts as a list; 1, 1.0 and True differ; a dataclass counts with the name of its class.

    Returns:
        16 hexadecimal characters of BLAKE2b over canonical JSON.

    Raises:
        TypeError: for anything else (sets, bytes, arrays, other keys), which has no canonical form.
        ValueError: for NaN and the infinities, which JSON cannot represent.
    """
    canonical = json.dumps(_plain(value, "value"), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def _plain(value: Any, where: str) -> Any:
    """Convert a value to JSON types; `where` names it in an error."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"cannot fingerprint {where} = {value}: expected a finite number")
    if type(value) in _AS_THEY_ARE or type(value) is float:
        return value
    if isinstance(value, PurePath):
        return value.as_posix()
    if is_dataclass(value) and not isinstance(value, type):
        members = {item.name: _plain(getattr(value, item.name), f"{where}.{item.name}") for item in fields(value)}
        return {"dataclass": type(value).__qualname__, "fields": members}
    if isinstance(value, list | tuple):
        return [
            item if type(item) in _AS_THEY_ARE else _plain(item, f"{where}[{index}]")
            for index, item in enumerate(value)
        ]
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    raise TypeError(
        f"cannot fingerprint {where} of type {type(value).__name__}: expected None, a boolean, number, string, path or "
        "dataclass, or a list, tuple or string-keyed mapping of these"
    )
