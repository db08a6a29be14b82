"""Labels that production has not learned from, night by night, and whether those of a night are to be trusted.

Each night is looked at by itself, since a bad one would drown in the good ones around it. Labels that were refused once
stay refused, however many good ones follow, until they are corrected or undone, or a person accepts them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fewshot.promotion import NewLabels, check_new_labels
from ray_jobs.registry.learned_labels import LearnedLabels, renames_between
from ray_jobs.retraining.fresh_labels import ComparedVersion, ScoredLabel

EXAMPLES = "examples"
"""The day of labels that are in no ledger: nobody knows when they came."""
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
    """

    day: str
    labels: Mapping[str, str]
    found: NewLabels


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
    renamed = dict(renames_between(learned, now))
    nights: defaultdict[NightKey, dict[str, str]] = defaultdict(dict)
    for content, names in now.of_content.items():
        known = tuple(sorted(renamed.get(name, name) for name in learned.of_content.get(content, ())))
        if len(names) == 1 and known != names:
            nights[night_of(times.get(content), turns)][content] = names[0]
    return dict(sorted(nights.items()))


def without_accepted(
    nights: Mapping[NightKey, Mapping[str, str]], accepted: Sequence[LearnedLabels]
) -> dict[NightKey, dict[str, str]]:
    """Leave out labels that a person accepted, and nights without any other."""
    found = {
        key: {
            content: label
            for content, label in labels.items()
            if not any(each.of_content.get(content) == (label,) for each in accepted)
        }
        for key, labels in nights.items()
    }
    return {key: labels for key, labels in found.items() if labels}


def check_nights(
    nights: Mapping[NightKey, Mapping[str, str]],
    versions: Sequence[tuple[ComparedVersion, ComparedVersion | None]],
    corrected: Collection[str],
) -> list[Night]:
    """Return the nights whose labels contradict all versions too much, see `fewshot.promotion.check_new_labels`.

    Production alone does not decide while it is watched: if it is a bad version, its scores promise too much, and what
    it would refuse is the very evidence against it. Wrong labels contradict the version before it as well.

    Args:
        nights: from `new_labels_by_night`.
        versions: production first, each with its twin. A version predicts the images that it has not learned from; its
            twin those with another label than it learned, as far as they were held back: the version itself would
            repeat what it learned. None if there are no such images.
        corrected: contents of corrections, which were given because production was wrong, and say nothing here.
    """
    checked = []
    for key, labels in nights.items():
        given = {content: label for content, label in labels.items() if content not in corrected}
        found = [_check(given, version, twin) for version, twin in versions]
        if found and all(each.is_suspicious for each in found):
            checked.append(Night(key.day, labels, found[0]))
    return checked


def _check(labels: Mapping[str, str], version: ComparedVersion, twin: ComparedVersion | None) -> NewLabels:
    found = [(label, _predicted(content, label, version, twin)) for content, label in labels.items()]
    scored = [(label, predicted) for label, predicted in found if predicted is not None]
    scores = np.array([predicted.score for _, predicted in scored], dtype=np.float64)
    return check_new_labels([label for label, _ in scored], [predicted.label for _, predicted in scored], scores)


def _predicted(content: str, label: str, version: ComparedVersion, twin: ComparedVersion | None) -> ScoredLabel | None:
    """What was predicted without having learned from the image; None if nothing was, or without a score."""
    unlearned = version if content not in version.learned else twin
    if unlearned is None or content in unlearned.learned or label not in unlearned.classes:
        return None
    predicted = unlearned.predicted.get(content)
    return None if predicted is None or np.isnan(predicted.score) else predicted
