"""Labels that two versions are compared on: given by people, and learned from by neither of the two.

Only images whose choice did not depend on predictions are evidence: those of audits, and of imported tables. Images
that `suggest` chose, or that review showed by class, score or disagreement, were chosen by what production predicts:
among them an equal version looks better or worse than it is. The first images of an audit are chosen by their strata,
which predictions make, and are none either; those that remain are drawn at random, see `fewshot.audit.draw`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from fewshot.promotion import ClassGuard, Comparison, guard_class
from ray_jobs.audit.stored_draw import StoredSample
from ray_jobs.labels.current_labels import CurrentLabels
from ray_jobs.labels.kept_images import kept_reference
from ray_jobs.labels.label_event import ImageId

EvidenceOf = Literal["all", "audit"]
"""All labels whose images were not chosen by predictions: what is shown holds for images like these. Those that an
audit drew at random: it holds for the archive."""


class FreshLabel(NamedTuple):
    """A label that a person gave to an image.

    Attributes:
        content: digest of the image's content.
        label: its class.
    """

    content: str
    label: str


class ScoredLabel(NamedTuple):
    """What a version predicts for an image.

    Attributes:
        label: the most probable class.
        score: its calibrated probability; NaN where there is none.
        others: the next most probable classes and their scores, in descending order.
    """

    label: str
    score: float
    others: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ComparedVersion:
    """A version, as far as it is compared.

    Attributes:
        classes: names of its classes, by the names that they have now.
        learned: digests of the images that it learned from.
        predicted: its predictions of other images, by digest, by the names that classes have now.
    """

    classes: frozenset[str]
    learned: Collection[str]
    predicted: Mapping[str, ScoredLabel]


@dataclass(frozen=True, slots=True)
class LabelComparison:
    """Versions compared with an older one on labels.

    Attributes:
        labels: the class of each image.
        comparison: of the images, in the same order.
        classes: number of classes that all of them know.
        newer: by which version of the chain each image was classified, from 0.
    """

    labels: tuple[str, ...]
    comparison: Comparison
    classes: int
    newer: tuple[int, ...]

    def fallen(self, alpha: float) -> tuple[str, ...]:
        """Return the classes in which the older version is shown to be better.

        Args:
            alpha: probability with which any class of equal versions is called so.
        """
        worse = [label for label, (_, better, worse) in self._counts().items() if worse > better]
        return tuple(label for label in worse if self.guard(label, alpha).state == "fell")

    def guard(self, label: str, alpha: float) -> ClassGuard:
        """Return what is known about a fall in a class that has a label."""
        images, better, worse = self._counts()[label]
        return guard_class(images=images, better=better, worse=worse, classes=max(1, self.classes), alpha=alpha)

    def watched_enough(self, enough: int) -> int:
        """Return how many of the chain's versions, from the first, have so many labels that came to them or later."""
        count, counts = 0, Counter(self.newer)
        for place in sorted(counts, reverse=True):
            count += counts[place]
            if count >= enough:
                return place + 1
        return 0

    def _counts(self) -> dict[str, tuple[int, int, int]]:
        """Images of each class, and those of them that favour either version."""
        gains: defaultdict[str, list[int]] = defaultdict(list)
        for label, gain in zip(self.labels, self.comparison.gains.tolist(), strict=True):
            gains[label].append(gain)
        return {label: (len(each), each.count(1), each.count(-1)) for label, each in sorted(gains.items())}


def labels_for_evidence(
    current: CurrentLabels,
    digests: Mapping[str, str],
    *,
    archive: str,
    samples: Mapping[str, StoredSample],
    of: EvidenceOf = "all",
) -> tuple[FreshLabel, ...]:
    """Return labels of the ledger that may be evidence, each content once, in the order in which they were given.

    A content with two different labels is none: nobody knows which one is right.

    Args:
        current: the ledger.
        digests: reference to the copy of an image -> digest of its content; images that cannot be read have none.
        archive: identity of the archive; labels of others are no evidence about it.
        samples: of audits, by draw; without its sample a draw is no evidence.
        of: which labels are evidence.
    """
    drawn = {image for draw, sample in samples.items() for image in _drawn_at_random(current, draw, sample, archive)}
    found: dict[str, FreshLabel] = {}
    disputed = set()
    for image, event in sorted(current.answers.items(), key=lambda item: (item[1].time, item[1].id)):
        content = digests.get(kept_reference(event), "")
        is_evidence = image in drawn or (of == "all" and event.reason == "import")
        if image.archive != archive or not content or event.label is None or not is_evidence:
            continue
        label = FreshLabel(content, event.label)
        if found.setdefault(content, label).label != label.label:
            disputed.add(content)
    return tuple(label for content, label in found.items() if content not in disputed)


def _drawn_at_random(current: CurrentLabels, draw: str, sample: StoredSample, archive: str) -> set[ImageId]:
    """Images of an audit that were answered, without the first of their strata; a later answer may count."""
    drawn = {ImageId(archive, image.image) for image in sample.images[sample.floor :]}
    return drawn & set(current.draws.get(draw, {}))


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


def newest_without(content: str, learned: Sequence[Collection[str]]) -> int | None:
    """Return the place of the newest version, the last one, that did not learn from an image; None if all did."""
    return next((at for at in reversed(range(len(learned))) if content not in learned[at]), None)


def compare(labels: Iterable[FreshLabel], chain: Sequence[ComparedVersion], older: ComparedVersion) -> LabelComparison:
    """Compare what was in production with an older version, each label by the version that it came to.

    Args:
        labels: of the ledger, or held-back examples.
        chain: one candidate, or versions that were in production one after another. A label is compared with the newest
            of them that did not learn from it: that was in production when it came.
        older: production, or the version that would be restored.
    """
    compared = []
    for label in labels:
        place = newest_without(label.content, [version.learned for version in chain])
        if place is not None and fresh_for([label], [chain[place], older]):
            compared.append((label, place, _is_right(label, chain[place]) - _is_right(label, older)))
    classes = older.classes.intersection(*(each.classes for each in chain))
    gains = np.array([gain for _, _, gain in compared], dtype=int)
    names, places = tuple(label.label for label, _, _ in compared), tuple(place for _, place, _ in compared)
    return LabelComparison(names, Comparison(gains), len(classes), places)


def _is_right(label: FreshLabel, version: ComparedVersion) -> int:
    return int(version.predicted[label.content].label == label.label)
