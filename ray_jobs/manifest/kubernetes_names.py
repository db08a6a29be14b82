"""Names as Kubernetes takes them (DNS-1035), made from the names of jobs."""

from __future__ import annotations

import re
import unicodedata

from cluster import fingerprint

MAX_LENGTH = 47
"""Of a RayJob: KubeRay appends to it, and a service's name has at most 63 characters."""


def kubernetes_name(name: str) -> str:
    """The name in small ASCII letters, digits and hyphens, beginning with a letter; may still be too long.

    Names that have nothing of the kind in them get a fingerprint instead.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if not slug:
        return f"job-{fingerprint(name)[:12]}"
    return slug if slug[0].isalpha() else f"job-{slug}"


def name_problems(name: str) -> list[str]:
    """What is wrong with a job's name, deployed."""
    made = kubernetes_name(name)
    if len(made) <= MAX_LENGTH:
        return []
    return [f"[job] name: {made!r} has {len(made)} characters, KubeRay takes at most {MAX_LENGTH}; shorten it"]
