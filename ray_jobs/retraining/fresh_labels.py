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


def compare(
    labels: Iterable[FreshLabel], chain: Sequence[ComparedVersion], older: ComparedVersion, of: EvidenceOf = "all"
) -> Comparison:
    """Compare what was in production with an older version, each label by the version that it came to.

    Args:
        labels: of the ledger, or held-back examples.
        chain: one candidate, or versions that were in production one after another. A label is judged by the newest of
            them that did not learn from it: that was in production when it came.
        older: production, or the version that would be restored.
        of: "audit" weights each label by its inverse probability.
    """
    judged = []
    for label in labels:
        newer = next((each for each in reversed(chain) if label.content not in each.learned), None)
        if newer is not None and fresh_for([label], [newer, older]):
            judged.append((label, _is_right(label, newer) - _is_right(label, older)))
    gains = np.array([gain for _, gain in judged], dtype=int)
    if of != "audit" or not judged:
        return Comparison(gains)
    weights = np.array([1.0 / (label.probability or 1.0) for label, _ in judged])
    return Comparison(gains, weights / weights.mean())


def _is_right(label: FreshLabel, version: ComparedVersion) -> int:
    return int(version.predicted[label.content].label == label.label)


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
