"""Labels that production has not learned from, night by night, and whether those of a night are to be trusted.

Each night is looked at by itself, since a bad one would drown in the good ones around it. Labels that were refused once
stay refused, however many good ones follow, until they are corrected or undone, or a person accepts them. Labels that
were learned tell how much production's scores promise too little, or too much.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from fewshot.promotion import NewLabels, RankedLabels, check_new_labels
from fewshot.promotion.new_labels import FLOOR
from ray_jobs.registry.learned_labels import LearnedLabels, renames_between
from ray_jobs.retraining.fresh_labels import ComparedVersion, ScoredLabel

EXAMPLES = "examples"
"""The day of labels that are in no ledger: nobody knows when they came."""
ENOUGH = 500
"""Earlier labels of which more would say little: the shift of scores is known to a tenth of its log-odds then."""
VersionAndTwin: TypeAlias = tuple[ComparedVersion, ComparedVersion | None]
_DAY = len("2026-11-30")


class NightKey(NamedTuple):
    """When labels came.

    Attributes:
        day: such as "2026-11-30", UTC; `EXAMPLES` where that is not known.
        turn: number of turns before that learned from labels or refused some: those of a day may be several nights.
    """

    day: str
    turn: int


def night_of(time: str | None, turns: Sequence[str]) -> NightKey:
    """Return the night of a label.

    Args:
        time: of its event; None if it is in no ledger.
        turns: times of the turns that learned from labels or refused some, in ascending order.
    """
    return NightKey(EXAMPLES, 0) if time is None else NightKey(time[:_DAY], bisect_left(turns, time))


@dataclass(frozen=True, slots=True)
class Night:
    """Labels that came together.

    Attributes:
        day: see `NightKey`.
        labels: class by content.
        found: what they look like to production.
        is_refused: whether they contradict all versions that are asked.
    """

    day: str
    labels: Mapping[str, str]
    found: NewLabels
    is_refused: bool


def new_labels_by_night(
    now: LearnedLabels, learned: LearnedLabels, times: Mapping[str, str], turns: Sequence[str] = ()
) -> dict[NightKey, dict[str, str]]:
    """Return the present labels that production has not learned from, by the night in which they came.

    Args:
        now: all present labels.
        learned: those that production learned from.
        times: content -> time of its label in the ledger.
        turns: see `night_of`.

    Returns:
        for each night, in order, the class of each content, by present names; images with several classes are left out.
    """
    known = _by_present_names(learned, now)
    nights: defaultdict[NightKey, dict[str, str]] = defaultdict(dict)
    for content, names in now.of_content.items():
        if len(names) == 1 and known.get(content) != names:
            nights[night_of(times.get(content), turns)][content] = names[0]
    return dict(sorted(nights.items()))


def without_accepted(
    nights: Mapping[NightKey, Mapping[str, str]], accepted: Sequence[LearnedLabels], now: LearnedLabels
) -> dict[NightKey, dict[str, str]]:
    """Leave out labels that a person accepted, also under an earlier name, and nights without any other.

    Args:
        nights: from `new_labels_by_night`.
        accepted: all labels that there were whenever a person accepted some.
        now: all present labels.
    """
    known = [_by_present_names(each, now) for each in accepted]
    found = {
        key: {
            content: label
            for content, label in labels.items()
            if not any(each.get(content) == (label,) for each in known)
        }
        for key, labels in nights.items()
    }
    return {key: labels for key, labels in found.items() if labels}


def _by_present_names(earlier: LearnedLabels, now: LearnedLabels) -> dict[str, tuple[str, ...]]:
    """Earlier labels by content, by the names that classes have now."""
    renamed = dict(renames_between(earlier, now))
    return {
        content: tuple(sorted(renamed.get(name, name) for name in names))
        for content, names in earlier.of_content.items()
    }


def earlier_labels(
    learned: LearnedLabels,
    now: LearnedLabels,
    ledger: Collection[str],
    versions: Iterable[ComparedVersion],
) -> RankedLabels:
    """Return labels that production learned, as the newest version that had not learned from them ranks them.

    Args:
        learned: what production learned from.
        now: all present labels; those that changed since are left out.
        ledger: contents of labels that people gave to the archive. Examples are other images, and corrections, which
            were given because production was wrong, are no measure.
        versions: those before production, the newest first; none is asked for once there are `ENOUGH` labels.
    """
    known = _by_present_names(learned, now)
    left = {
        content: names[0]
        for content, names in now.of_content.items()
        if len(names) == 1 and content in ledger and known.get(content) == names
    }
    found: list[tuple[str, ScoredLabel]] = []
    for version in versions if left else ():
        asked = {content: label for content, label in left.items() if content not in version.learned}
        found += _scored(asked, version, None)
        left = {content: label for content, label in left.items() if content not in asked}
        if len(found) >= ENOUGH or not left:
            break
    return _ranked(found)


def check_nights(
    nights: Mapping[NightKey, Mapping[str, str]],
    versions: Sequence[VersionAndTwin],
    corrected: Collection[str],
    earlier: RankedLabels | None = None,
) -> list[Night]:
    """Look whether the labels of each night contradict production too much, see `fewshot.promotion.check_new_labels`.

    Production alone does not decide while it is watched: if it is a bad version, its scores promise too much, and what
    it would refuse is the very evidence against it. So labels are not refused that the version before agrees with about
    as often as production expected to. What that version cannot classify is decided by production.

    Args:
        nights: from `new_labels_by_night`.
        versions: production first, each with its twin. A version predicts the images that it has not learned from; its
            twin those with another label than it learned, as far as they were held back: the version itself would
            repeat what it learned. None if there are no such images.
        corrected: contents of corrections, which were given because production was wrong, and say nothing here.
        earlier: see `earlier_labels`; they say nothing about `EXAMPLES`, on which scores are calibrated.
    """
    checked = []
    for key, labels in nights.items():
        given = {content: label for content, label in labels.items() if content not in corrected}
        before = None if key.day == EXAMPLES else earlier
        found = _check(given, *versions[0], before)
        is_refused = found.is_suspicious and not any(
            _is_supported(given, versions[0], other, before) for other in versions[1:]
        )
        checked.append(Night(key.day, labels, found, is_refused))
    return checked


def _is_supported(
    labels: Mapping[str, str], production: VersionAndTwin, other: VersionAndTwin, earlier: RankedLabels | None
) -> bool:
    """Whether another version agrees with labels as production expected to, and production with those it cannot see."""
    known = {content: label for content, label in labels.items() if _predicted(content, label, *other) is not None}
    rest = {content: label for content, label in labels.items() if content not in known}
    expected, found = _check(known, *production, earlier).expected, _check(known, *other, earlier)
    agrees = 0 < found.agreeing >= (1.0 - FLOOR) * expected and not found.is_suspicious
    return agrees and not _check(rest, *production, earlier).is_suspicious


def mostly_seen_as(label: str, now: LearnedLabels, version: ComparedVersion) -> tuple[str, int, int] | None:
    """Return the class that a version which does not know a label sees most of its images as.

    That may be another name of the label; a class of its own may look like one, too.

    Args:
        label: the name.
        now: all present labels.
        version: whose predictions are asked.

    Returns:
        the class, the number of images that are seen as it, and the number of all; None unless it is most of them.
    """
    images = (content for content, names in now.of_content.items() if names == (label,))
    seen = Counter(version.predicted[content].label for content in images if content in version.predicted)
    found, number = next(iter(seen.most_common(1)), ("", 0))
    return (found, number, seen.total()) if 2 * number > seen.total() else None


def _check(
    labels: Mapping[str, str], version: ComparedVersion, twin: ComparedVersion | None, earlier: RankedLabels | None
) -> NewLabels:
    scored = _scored(labels, version, twin)
    return check_new_labels([label for label, _ in scored], _ranked(scored), len(version.classes), earlier)


def _scored(
    labels: Mapping[str, str], version: ComparedVersion, twin: ComparedVersion | None
) -> list[tuple[str, ScoredLabel]]:
    """Labels with predictions of their images."""
    found = ((label, _predicted(content, label, version, twin)) for content, label in labels.items())
    return [(label, predicted) for label, predicted in found if predicted is not None]


def _predicted(content: str, label: str, version: ComparedVersion, twin: ComparedVersion | None) -> ScoredLabel | None:
    """What was predicted without having learned from the image; None if nothing was, or without a score."""
    unlearned = version if content not in version.learned else twin
    if unlearned is None or content in unlearned.learned or label not in unlearned.classes:
        return None
    predicted = unlearned.predicted.get(content)
    return None if predicted is None or np.isnan(predicted.score) else predicted


def _ranked(scored: Sequence[tuple[str, ScoredLabel]]) -> RankedLabels:
    """Labels by their places among the predicted classes."""
    classes = [[each.label, *(name for name, _ in each.others)] for _, each in scored]
    width = max((len(names) for names in classes), default=1)
    ranks = [names.index(label) if label in names else width for (label, _), names in zip(scored, classes, strict=True)]
    values = [[each.score, *(score for _, score in each.others)] for _, each in scored]
    padded = [row + [0.0] * (width - len(row)) for row in values]
    return RankedLabels(np.array(ranks, np.int64), np.array(padded, np.float64).reshape(len(scored), width))
