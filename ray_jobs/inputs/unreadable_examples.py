"""Examples that could not be read. Classifiers are trained without them, which is said wherever results are shown."""

from __future__ import annotations

from collections.abc import Collection

from ray_jobs.inputs.examples import LabelledUnits
from ray_jobs.results.classification_metrics import UnreadableExamples

FEW = 5


def find_unreadable(support: LabelledUnits, read: Collection[str]) -> UnreadableExamples:
    """Find the examples that a classifier was trained without.

    Args:
        support: its examples.
        read: those that could be read.
    """
    missing = sorted(set(support.labels.images).difference(read))
    label_of = dict(zip(support.labels.images, support.labels.labels, strict=True))
    known = {label_of[image] for image in read}
    lost = sorted({label_of[image] for image in missing} - known)
    names = support.labels.space.names
    return UnreadableExamples(
        examples=len(missing), such_as=tuple(missing[:FEW]), classes=tuple(names[label] for label in lost)
    )


def unreadable_summary(found: UnreadableExamples) -> str | None:
    """Say what `find_unreadable` found, in a sentence or two; None if every example could be read."""
    if not found.examples:
        return None
    sentence = (
        f"{found.examples} of the examples could not be read and were left out, such as {', '.join(found.such_as)}"
    )
    if found.classes:
        sentence += f". No example is left of {', '.join(found.classes)}, of which only the name is known"
    return f"{sentence}."
