"""Labels that two versions are compared on: given by people, and learned from by neither of the two.

Only images whose choice did not depend on predictions are evidence: those of audits, and of imported tables. Images
that `suggest` chose, or that review showed by class, score or disagreement, were chosen by what production predicts:
among them an equal version looks better or worse than it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from fewshot.promotion import ClassGuard, Comparison, guard_class
from ray_jobs.audit.stored_draw import StoredSample
from ray_jobs.labels.current_labels import CurrentLabels
from ray_jobs.labels.kept_images import kept_reference
from ray_jobs.labels.label_event import ImageId, LabelEvent

EvidenceOf = Literal["all", "audit"]
"""All labels whose images were not chosen by predictions: what is shown holds for images like these. Those of audits,
weighted by how they were drawn: it holds for the archive."""
COMPARED = frozenset({"audit", "import"})
"""Reasons of labels that are evidence."""


class FreshLabel(NamedTuple):
    """A label that a person gave to an image.

    Attributes:
        content: digest of the image's content.
        label: its class.
        weight: inverse probability with which an audit drew the image, over its mean among all that this audit can
            draw; None where images have equal weights.
    """

    content: str
    label: str
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class EvidenceLabels:
    """Labels that may be evidence.

    Attributes:
        labels: each content once, in the order in which they were given.
        bound: largest weight that the audits can draw; None where images have equal weights.
    """

    labels: tuple[FreshLabel, ...] = ()
    bound: float | None = None

    def without(self, contents: Collection[str]) -> EvidenceLabels:
        """Return the labels of other images than these."""
        return EvidenceLabels(tuple(each for each in self.labels if each.content not in contents), self.bound)


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


@dataclass(frozen=True, slots=True)
class LabelComparison:
    """Two versions compared on labels.

    Attributes:
        labels: the class of each image.
        comparison: of the images, in the same order.
    """

    labels: tuple[str, ...]
    comparison: Comparison

    @property
    def fallen(self) -> tuple[str, ...]:
        """Classes in which the older version is shown to be better."""
        counts = self._counts()
        return tuple(
            label
            for label, (_, better, worse) in counts.items()
            if worse > better and self._guard(label).state == "fell"
        )

    def guards(self) -> dict[str, ClassGuard]:
        """Return what is known about a fall in each class."""
        return {label: self._guard(label) for label in self._counts()}

    def _guard(self, label: str) -> ClassGuard:
        counts = self._counts()
        images, better, worse = counts[label]
        return guard_class(images=images, better=better, worse=worse, classes=len(counts))

    def _counts(self) -> dict[str, tuple[int, int, int]]:
        """Images of each class, and those of them that favour either version; none where images have weights."""
        if self.comparison.weights is not None:
            return {}
        gains: defaultdict[str, list[int]] = defaultdict(list)
        for label, gain in zip(self.labels, self.comparison.gains.tolist(), strict=True):
            gains[label].append(gain)
        return {label: (len(each), each.count(1), each.count(-1)) for label, each in sorted(gains.items())}


def labels_for_evidence(
    current: CurrentLabels, digests: Mapping[str, str], *, archive: str, samples: Mapping[str, StoredSample] | None
) -> EvidenceLabels:
    """Return labels of the ledger that may be evidence, each content once, in the order in which they were given.

    A content with two different labels is none: nobody knows which one is right.

    Args:
        current: the ledger.
        digests: reference to the copy of an image -> digest of its content; images that cannot be read have none.
        archive: identity of the archive; labels of others are no evidence about it.
        samples: of audits, by draw: only their labels are taken, with weights. None takes all, with equal weights.
    """
    drawn = _drawn(current) if samples is None else _weights(samples, archive)
    found: dict[str, FreshLabel] = {}
    disputed = set()
    for image, event in sorted(current.answers.items(), key=lambda item: (item[1].time, item[1].id)):
        content = digests.get(kept_reference(event), "")
        is_chosen = image in drawn or (samples is None and event.reason in COMPARED)
        if image.archive != archive or not content or event.label is None or not is_chosen:
            continue
        label = FreshLabel(content, event.label, drawn.get(image))
        if found.setdefault(content, label).label != label.label:
            disputed.add(content)
    kept = tuple(label for content, label in found.items() if content not in disputed)
    return EvidenceLabels(kept, None if samples is None else max([1.0, *map(_bound, samples.values())]))


def _drawn(current: CurrentLabels) -> dict[ImageId, None]:
    """Images that were answered for an audit, also where a later answer counts."""
    return {image: None for images in current.draws.values() for image in images}


def _weights(samples: Mapping[str, StoredSample], archive: str) -> dict[ImageId, float]:
    """Weights of the images of audits; of an image of several, that of the first."""
    found: dict[ImageId, float] = {}
    for _, sample in sorted(samples.items()):
        for image in sample.images:
            found.setdefault(ImageId(archive, image.image), _mean_probability(sample) / image.probability)
    return found


def _mean_probability(sample: StoredSample) -> float:
    """Over its inverse the mean weight is 1: the expected number of drawn images over that of all."""
    return sum(stratum.drawn for stratum in sample.strata) / sample.population


def _bound(sample: StoredSample) -> float:
    drawn = [stratum for stratum in sample.strata if stratum.drawn]
    return max(_mean_probability(sample) * stratum.images / stratum.drawn for stratum in drawn) if drawn else 1.0


def corrections(events: Iterable[LabelEvent], digests: Mapping[str, str]) -> frozenset[str]:
    """Return the contents of images that were labelled because production was wrong."""
    return frozenset(digests.get(kept_reference(each), "") for each in events if each.reason == "correction") - {""}


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
    labels: Iterable[FreshLabel],
    chain: Sequence[ComparedVersion],
    older: ComparedVersion,
    *,
    bound: float | None = None,
) -> LabelComparison:
    """Compare what was in production with an older version, each label by the version that it came to.

    Args:
        labels: of the ledger, or held-back examples.
        chain: one candidate, or versions that were in production one after another. A label is compared with the newest
            of them that did not learn from it: that was in production when it came.
        older: production, or the version that would be restored.
        bound: see `EvidenceLabels`.
    """
    compared = []
    for label in labels:
        newer = next((each for each in reversed(chain) if label.content not in each.learned), None)
        if newer is not None and fresh_for([label], [newer, older]):
            compared.append((label, _is_right(label, newer) - _is_right(label, older)))
    gains = np.array([gain for _, gain in compared], dtype=int)
    names = tuple(label.label for label, _ in compared)
    if bound is None:
        return LabelComparison(names, Comparison(gains))
    weights = np.array([label.weight or 1.0 for label, _ in compared], dtype=np.float64)
    return LabelComparison(names, Comparison(gains, weights, bound))


def _is_right(label: FreshLabel, version: ComparedVersion) -> int:
    return int(version.predicted[label.content].label == label.label)
