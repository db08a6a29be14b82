"""Names and YAML as Kubernetes and `ray up` read them: the same values give the same text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import yaml

from cluster import fingerprint

Yaml: TypeAlias = "Mapping[str, Yaml] | Sequence[Yaml] | str | int | float | bool | None"
"""A value of a YAML document."""
YamlMap: TypeAlias = dict[str, Yaml]

MAX_LENGTH = 47
"""Characters in the name of a RayJob: KubeRay appends to it, and the name of a service has at most 63."""
_NUMBER_ELSEWHERE = re.compile(r"[-+]?(\d[\d_]*(\.[\d_]*)?([eE][-+]?\d+)?|0o[0-7]+|\.\d+)")
"""Strings such as "1e3", which PyYAML reads as strings and kubectl as numbers."""


def kubernetes_name(name: str) -> str:
    """Return the name in lower-case ASCII letters, digits and hyphens, beginning with a letter; it may be too long.

    A name without such characters is replaced by its fingerprint.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if not slug:
        return f"job-{fingerprint(name)[:12]}"
    return slug if slug[0].isalpha() else f"job-{slug}"


def name_problems(name: str, longest: int = MAX_LENGTH) -> list[str]:
    """Return a problem if the name of a job has more characters than KubeRay or Kubernetes allow."""
    made = kubernetes_name(name)
    if len(made) <= longest:
        return []
    return [f"[job] name: expected at most {longest} characters for KubeRay, got {len(made)} in {made!r}"]


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Write no anchors, and strings of several lines as blocks."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else "'" if _NUMBER_ELSEWHERE.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(documents: Iterable[YamlMap], *, comment: str) -> str:
    """Return documents as one stream.

    Args:
        documents: plain values.
        comment: line at the top.
    """
    dumped = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return f"# {comment}\n{dumped}"
