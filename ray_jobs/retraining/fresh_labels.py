"""Labels that two versions are compared on: given by people, and learned from by neither of the two."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from fewshot.promotion import Comparison, NewLabels, check_new_labels
from ray_jobs.labels.kept_images import kept_reference
from ray_jobs.labels.label_event import LabelEvent

EvidenceOf = Literal["all", "audit"]
"""All labels: what is shown holds for images like the labelled ones. Those of audits, weighted by how they were drawn:
it holds for the archive."""
NOT_COMPARED = frozenset({"correction", "planted"})
"""Reasons of labels that are no evidence: a correction was given because production was wrong."""


class FreshLabel(NamedTuple):
    """A label that a person gave to an image.

    Attributes:
        content: digest of the image's content.
        label: its class.
        probability: with which an audit drew the image, in (0, 1]; None where it was chosen otherwise.
    """

    content: str
    label: str
    probability: float | None


class ScoredLabel(NamedTuple):
    """What a version predicts for an image.

    Attributes:
        label: the most probable class.
        score: its calibrated probability; NaN where there is none.
    """

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class ComparedVersion:
    """A version, as far as it is compared.

    Attributes:
        classes: names of its classes, by the names that they have now.
        learned: digests of the images that it learned from.
        predicted: its predictions of other images, by digest, by the names that classes have now.
    """

    classes: frozenset[str]
    learned: frozenset[str]
    predicted: Mapping[str, ScoredLabel]


def labels_for_evidence(
    events: Iterable[LabelEvent], digests: Mapping[str, str], of: EvidenceOf = "all"
) -> tuple[FreshLabel, ...]:
    """Return labels of the ledger that may be evidence, each content once, in the order in which they were given.

    A content with two different labels is none: nobody knows which one is right.

    Args:
        events: that count, of answers that are classes.
        digests: reference to the copy of an image -> digest of its content; images that cannot be read have none.
        of: which labels are evidence.
    """
    found: dict[str, FreshLabel] = {}
    disputed = set()
    for event in sorted(events, key=lambda each: (each.time, each.id)):
        content = digests.get(kept_reference(event), "")
        is_drawn = event.reason == "audit" and event.probability is not None
        if not content or event.label is None or event.reason in NOT_COMPARED or (of == "audit" and not is_drawn):
            continue
        label = FreshLabel(content, event.label, event.probability if is_drawn else None)
        known = found.setdefault(content, label)
        if known.label != label.label:
            disputed.add(content)
    return tuple(label for content, label in found.items() if content not in disputed)


def fresh_for(labels: Iterable[FreshLabel], versions: Collection[ComparedVersion]) -> tuple[FreshLabel, ...]:
    """Return the labels of classes that all versions know and of images that none of them learned from.

    Images without a prediction of each, as they cannot be read, are left out.
    """
    return tuple(
        label
        for label in labels
        if all(
            label.label in version.classes
            and label.content not in version.learned
            and label.content in version.predicted
            for version in versions
        )
    )


def compare(labels: Sequence[FreshLabel], newer: ComparedVersion, older: ComparedVersion, of: EvidenceOf) -> Comparison:
    """Compare two versions on labels that are fresh for both.

    Args:
        labels: see `fresh_for`.
        newer: the candidate, or the promoted version that is watched.
        older: production, or the version that would be restored.
        of: "audit" weights each label by its inverse probability.
    """
    right = [[version.predicted[each.content].label == each.label for each in labels] for version in (newer, older)]
    gains = np.array(right[0], dtype=int) - np.array(right[1], dtype=int)
    if of != "audit" or not labels:
        return Comparison(gains)
    weights = np.array([1.0 / (each.probability or 1.0) for each in labels])
    return Comparison(gains, weights / weights.mean())


def check_labels(labels: Sequence[FreshLabel], production: ComparedVersion) -> NewLabels:
    """Return whether labels contradict production too much, see `check_new_labels`.

    Args:
        labels: that are fresh for production.
        production: predictions without a score say nothing, and are left out.
    """
    scored = [(each.label, production.predicted[each.content]) for each in labels]
    known = [(label, found) for label, found in scored if not np.isnan(found.score)]
    return check_new_labels(
        [label for label, _ in known],
        [found.label for _, found in known],
        np.array([found.score for _, found in known]),
    )
