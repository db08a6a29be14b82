"""Labels that production has not learned from, night by night, and whether those of a night are to be trusted.

Each night is looked at by itself, since a bad one would drown in the good ones around it. Labels that were refused once
stay refused, however many good ones follow, until they are corrected or undone, or a person accepts them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fewshot.promotion import NewLabels, check_new_labels
from ray_jobs.registry.learned_labels import LearnedLabels, diff_labels
from ray_jobs.retraining.fresh_labels import ComparedVersion, ScoredLabel


@dataclass(frozen=True, slots=True)
class Night:
    """Labels that came together.

    Attributes:
        labels: class by content.
        found: what they look like to production.
    """

    labels: Mapping[str, str]
    found: NewLabels


def new_labels_by_night(
    now: LearnedLabels, learned: LearnedLabels, history: Sequence[LearnedLabels]
) -> list[dict[str, str]]:
    """Return the present labels that production has not learned from, by the night in which they came.

    Args:
        now: all present labels.
        learned: those that production learned from.
        history: earlier sets of labels, in the order of their coming; a label belongs to the first that has it.

    Returns:
        for each set of `history`, and then for now, the class of each content, by present names; images with several
        classes are left out.
    """
    known = _by_present_names(learned, now)
    earlier = [_by_present_names(each, now) for each in history]
    nights: list[dict[str, str]] = [{} for _ in range(len(history) + 1)]
    for content, names in now.of_content.items():
        if len(names) != 1 or known.get(content) == names:
            continue
        night = next((at for at, each in enumerate(earlier) if each.get(content) == names), len(history))
        nights[night][content] = names[0]
    return nights


def _by_present_names(labels: LearnedLabels, now: LearnedLabels) -> dict[str, tuple[str, ...]]:
    renamed = dict(diff_labels(labels, now).renamed)
    return {key: tuple(sorted(renamed.get(name, name) for name in names)) for key, names in labels.of_content.items()}


def check_nights(
    nights: Sequence[Mapping[str, str]],
    production: ComparedVersion,
    twin: ComparedVersion | None,
    corrected: Collection[str],
) -> list[Night]:
    """Return the nights whose labels contradict production too much, see `fewshot.promotion.check_new_labels`.

    Args:
        nights: from `new_labels_by_night`.
        production: predicts the images that it has not learned from.
        twin: of production, which predicts those with another label than production learned, as far as they were held
            back from it: production itself would repeat what it learned. None if there are no such images.
        corrected: contents of corrections, which were given because production was wrong, and say nothing here.
    """
    checked = []
    for labels in nights:
        scored = [
            (label, predicted)
            for content, label in labels.items()
            if content not in corrected and (predicted := _predicted(content, label, production, twin)) is not None
        ]
        found = check_new_labels(
            [label for label, _ in scored],
            [predicted.label for _, predicted in scored],
            np.array([predicted.score for _, predicted in scored], dtype=np.float64),
        )
        if found.is_suspicious:
            checked.append(Night(labels, found))
    return checked


def _predicted(
    content: str, label: str, production: ComparedVersion, twin: ComparedVersion | None
) -> ScoredLabel | None:
    """What was predicted without having learned from the image; None if nothing was, or without a score."""
    version = production if content not in production.learned else twin
    if version is None or content in version.learned or label not in version.classes:
        return None
    predicted = version.predicted.get(content)
    return None if predicted is None or np.isnan(predicted.score) else predicted
