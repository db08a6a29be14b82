"""YAML for kubectl, `ray up` and people: the same values give the same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

_NUMBER_ELSEWHERE = re.compile(r"[-+]?(\d[\d_]*(\.[\d_]*)?([eE][-+]?\d+)?|0o[0-7]+|\.\d+)")
"""Strings such as "1e3", which PyYAML reads as strings and kubectl as numbers."""


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Write no anchors, and strings of several lines as blocks."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else "'" if _NUMBER_ELSEWHERE.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(documents: Iterable[Any], *, comment: str) -> str:
    """Return documents as one stream.

    Args:
        documents: plain values.
        comment: line at the top.
    """
    dumped = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return f"# {comment}\n{dumped}"
