"""Kubernetes names (DNS-1035), made from the names of jobs."""

from __future__ import annotations

import re
import unicodedata

from cluster import fingerprint

MAX_LENGTH = 47
"""Characters in the name of a RayJob: KubeRay appends to it, and the name of a service has at most 63."""


def kubernetes_name(name: str) -> str:
    """Return the name in lower-case ASCII letters, digits and hyphens, beginning with a letter; it may be too long.

    A name without such characters is replaced by its fingerprint.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if not slug:
        return f"job-{fingerprint(name)[:12]}"
    return slug if slug[0].isalpha() else f"job-{slug}"


def name_problems(name: str) -> list[str]:
    """Return a problem if the name of a job is too long for Kubernetes."""
    made = kubernetes_name(name)
    if len(made) <= MAX_LENGTH:
        return []
    return [f"[job] name: expected at most {MAX_LENGTH} characters for KubeRay, got {len(made)} in {made!r}"]
