"""Examples that cannot be read: they stop a job. With `support.skip_unreadable`, classifiers are trained without them.

The metrics and the report of such a classifier name them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from cluster.records import Selection
from cluster.records.names import printable
from fewshot.errors import SHOWN
from ray_jobs.errors import JobError
from ray_jobs.inputs.class_warnings import FEW, first_few
from ray_jobs.inputs.examples import Labels
from ray_jobs.results.classification_metrics import UnreadableExamples

SKIP = "support.skip_unreadable = true"


def stop_at_unreadable(labels: Labels, reasons: Mapping[str, str], *, skip: bool) -> None:
    """Stop at examples that cannot be read.

    Args:
        labels: all examples.
        reasons: image -> why it cannot be read.
        skip: go on without them, unless a class has no other example.

    Raises:
        JobError: with where they were looked for, the first `SHOWN` of them, and what to do.
    """
    lost = _lost_classes(labels, reasons)
    if not reasons or (skip and not lost):
        return
    count = len(set(labels.images))
    found = f"{len(reasons) if len(reasons) < count else 'none'} of the {count} examples"
    found += " cannot be read" if len(reasons) < count else " could be read"
    remedy = f"Repair or remove them, or set {SKIP} to go on without them."
    if skip:
        remedy = (
            f"No readable example is left of {first_few(lost)}. Repair one of each class; or remove the class; or use"
            ' its name alone: [[support.classes]] with label = "…" and examples = 0.'
        )
    raise JobError(["\n".join([f"[support] {found}:", *_listed(labels, reasons), remedy])])


def _lost_classes(labels: Labels, unread: Collection[str]) -> list[str]:
    """Return the classes that have examples, none of which can be read."""
    left = {label for image, label in zip(labels.images, labels.labels, strict=True) if image not in unread}
    return [labels.space.names[label] for label in sorted(set(labels.labels) - left)]


def _listed(labels: Labels, reasons: Mapping[str, str]) -> list[str]:
    """Return a line for each of the first examples, with its place, class and reason."""
    selection = Selection(labels.folder, storage=labels.storage, schemes=labels.schemes)
    names = {image: labels.space.names[label] for image, label in zip(labels.images, labels.labels, strict=True)}
    lines = []
    for image, reason in sorted(reasons.items())[:SHOWN]:
        place = selection.locate(image)
        lines.append(f"  {printable(place.redacted if place else image)} ({printable(names[image])}): {reason}")
    return lines + ([f"  … and {len(reasons) - SHOWN} more"] if len(reasons) > SHOWN else [])


def skipped_summary(labels: Labels, reasons: Mapping[str, str]) -> str:
    """Name the examples that a job goes on without, and how many are left of their classes."""
    given, names = Counter(labels.labels), labels.space.names
    skipped = Counter(label for image, label in zip(labels.images, labels.labels, strict=True) if image in reasons)
    left = [f"{given[label] - count} of {given[label]} of {names[label]}" for label, count in skipped.items()]
    named = [f"{printable(image)} ({reason})" for image, reason in sorted(reasons.items())]
    return f"skipped {len(reasons)} unreadable examples: {first_few(named)}; left are {first_few(left)}"


def find_unreadable(labels: Labels, read: Collection[str]) -> UnreadableExamples:
    """Find the examples that a classifier was trained without.

    Args:
        labels: its examples.
        read: those that could be read.
    """
    missing = sorted(set(labels.images).difference(read))
    label_of = dict(zip(labels.images, labels.labels, strict=True))
    known = {label_of[image] for image in read}
    lost = sorted({label_of[image] for image in missing} - known)
    names = labels.space.names
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
