"""Examples that could not be read. Classifiers are learned without them, which is told wherever results are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ray_jobs.inputs.examples import LabelledUnits

FEW = 5


def find_unreadable(support: LabelledUnits, read: Collection[str]) -> dict[str, Any]:
    """What a classifier was learned without.

    Args:
        support: its examples.
        read: those that could be read.

    Returns:
        `examples`: how many could not; `such_as`: a few of them; `classes`: those that have no other.
    """
    missing = sorted(set(support.labels.images).difference(read))
    label_of = dict(zip(support.labels.images, support.labels.labels, strict=True))
    known = {label_of[image] for image in read}
    lost = sorted({label_of[image] for image in missing} - known)
    names = support.labels.space.names
    return {"examples": len(missing), "such_as": missing[:FEW], "classes": [names[label] for label in lost]}


def told(metrics: Mapping[str, Any]) -> str | None:
    """A sentence on what `find_unreadable` found; None if all could be read."""
    found = metrics.get("unreadable_examples")
    if not found or not found["examples"]:
        return None
    few = ", ".join(found["such_as"])
    sentence = f"{found['examples']} of the examples could not be read and were left out, such as {few}"
    if found["classes"]:
        sentence += f". No example is left of {', '.join(found['classes'])}, of which only the name is known"
    return f"{sentence}."
