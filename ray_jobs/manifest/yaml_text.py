"""YAML that kubectl, `ray up` and people read: the same values give the same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

_NUMBER_TO_OTHERS = re.compile(r"[-+]?(\d[\d_]*(\.[\d_]*)?([eE][-+]?\d+)?|0o[0-7]+|\.\d+)")
"""Texts such as "1e3": a text to PyYAML, a number to kubectl."""


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Without anchors, and with texts of several lines as they are."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else "'" if _NUMBER_TO_OTHERS.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(documents: Iterable[Any], *, comment: str) -> str:
    """Documents as one stream.

    Args:
        documents: plain values.
        comment: one line for the reader, at the top.
    """
    dumped = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return f"# {comment}\n{dumped}"
