"""Answers of the ledger to the images of a draw, and what they come to as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import takewhile

from fewshot.audit import NO_ANSWER, Answer, Answered, ClassFindings, Draw, Share, error_limit, find
from fewshot.data import Example
from ray_jobs.audit.stored_draw import StoredSample
from ray_jobs.labels.label_event import ImageId, LabelEvent
from ray_jobs.results.audit_result import AuditedClass, AuditedLimit, AuditedShare, AuditEstimates

ROUNDING = 1e-6
"""Of a number of images."""
MAX_ERRORS = (0.05, 0.1, 0.2, 0.3)
"""Error rates for which thresholds are looked for."""


def answers_in_order(
    sample: StoredSample, events: Mapping[ImageId, LabelEvent], archive: str
) -> tuple[list[Answer], int]:
    """Return the answers to the first images of a sample, up to the first image without one.

    Args:
        sample: the sample.
        events: the events that count for its draw, by image.
        archive: identity of the archive.

    Returns:
        the answers, and the number of answers to images after them.
    """
    found = [events.get(ImageId(archive, each.image)) for each in sample.images]
    answers = [_answer(event) for event in takewhile(lambda each: each is not None, found) if event is not None]
    return answers, sum(event is not None for event in found) - len(answers)


def _answer(event: LabelEvent) -> Answer:
    if event.answer == "label":
        return Answer(True, Example("", event.label or "").label)
    return Answer(True, None) if event.answer == "unknown" else NO_ANSWER


def estimates(
    draw: Draw, answers: Sequence[Answer], *, planned: int, confidence: float, limit_confidence: float
) -> AuditEstimates:
    """Return what answers say about the archive.

    Args:
        draw: what was drawn.
        answers: to its first images, one at least.
        planned: number of answers at which intervals are to be narrow.
        confidence: of every interval, in (0, 1).
        limit_confidence: of the thresholds, in (0, 1).
    """
    answered = Answered(draw, answers, planned=planned, alpha=1.0 - confidence)
    found = find(answered)
    limits = [error_limit(answered, each, confidence=limit_confidence) for each in MAX_ERRORS]
    return AuditEstimates(
        accuracy=_share(found.accuracy),
        labelled_error=None if found.labelled_error is None else _share(found.labelled_error),
        classes=tuple(_of_class(each, draw.strata.population) for each in found.classes),
        limits=tuple(AuditedLimit(**asdict(each)) for each in limits),
    )


def _of_class(each: ClassFindings, population: int) -> AuditedClass:
    share = each.share.estimate
    return AuditedClass(
        label=each.label,
        predicted=each.predicted,
        images=None if share is None else round(share.value * population),
        images_low=math.floor(each.share.low * population + ROUNDING),
        images_high=math.ceil(each.share.high * population - ROUNDING),
        share=_share(each.share),
        precision=_share(each.precision),
        recall=_share(each.recall),
    )


def _share(share: Share) -> AuditedShare:
    estimate = share.estimate
    if estimate is None:
        return AuditedShare(value=None, low=share.low, high=share.high, fixed_low=None, fixed_high=None)
    return AuditedShare(
        value=estimate.value, low=share.low, high=share.high, fixed_low=estimate.low, fixed_high=estimate.high
    )
