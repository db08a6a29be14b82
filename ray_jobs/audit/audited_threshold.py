"""The threshold of a job's `max_error` from an audit, in the place of one from the examples.

It is a promise about the archive that was audited, and about the classifier whose predictions were: another method,
other examples, classes or features make another one, of which the audit says nothing.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cluster import Store
from fewshot.audit import Answer, Answered, error_limit
from ray_jobs.audit.answers import answers_in_order
from ray_jobs.audit.stored_draw import StoredDraw, StoredSample, find_draw, find_sample, sample_path, sample_sizes
from ray_jobs.errors import JobError
from ray_jobs.labels.label_event import ImageId, LabelEvent
from ray_jobs.labels.label_ledger import LabelLedger
from ray_jobs.output.layout import AUDITS, LABELS, RUNS
from ray_jobs.output.runs import read_plan
from ray_jobs.results.error_limits import AuditedThreshold
from ray_jobs.results.run_plan import RunPlan

KEY = '[classifier] max_error_from = "audit"'
DATE = len("2026-11-30")
"""Characters of the time of an event that are its date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What a job labels with, as far as an audit must have been of the same.

    Attributes:
        classifier: fingerprint of the classifier.
        archive: identity of the archive.
        unknown_rate: of its test of images of no class; None tests none.
    """

    classifier: str
    archive: str
    unknown_rate: float | None


@dataclass(frozen=True, slots=True)
class _AnsweredDraw:
    """A draw with answers that count.

    Attributes:
        latest: time of the latest of them.
    """

    draw: StoredDraw
    sample: StoredSample
    answers: list[Answer]
    latest: str


def find_audited_threshold(store: Store, wanted: Audited, *, max_error: float, confidence: float) -> AuditedThreshold:
    """Find the threshold of a maximum error rate by the newest audit of a classifier.

    Args:
        store: the output, with its audits and its ledger of labels.
        wanted: what the audit must have been of.
        max_error: in (0, 1).
        confidence: probability that the threshold holds, in (0, 1).

    Raises:
        JobError: there is no audit with answers, or none of this classifier and archive.
        StorageError: storage does not respond.
    """
    known = sorted(_answered_draws(store), key=lambda each: (each.latest, each.draw.name))
    if not known:
        raise JobError([f"{KEY}: no audit in {store.root} has answers. {_advice(store)}"])
    own = [each for each in known if _problem(store, each.draw, wanted) is None]
    if not own:
        newest = known[-1].draw
        problem = _problem(store, newest, wanted)
        raise JobError([f"{KEY}: the newest audit, {newest.name}, {problem}. {_advice(store)}"])
    return _threshold(own[-1], max_error=max_error, confidence=confidence)


def _advice(store: Store) -> str:
    return (
        "Run the job without this key, audit that run (fewshot audit"
        f" {store.root} --n 300), label its images, and run the job with it"
    )


def _answered_draws(store: Store) -> Iterator[_AnsweredDraw]:
    folders = list(store.folders(AUDITS))
    if not folders:
        return
    ledger = LabelLedger(Store(store.url(LABELS), storage=store.storage))
    draws = ledger.current().draws
    for name in map(posixpath.basename, folders):
        events = draws.get(name, {})
        sizes = sample_sizes(store, name)
        draw = find_draw(store, name) if events and sizes else None
        sample = None if draw is None else find_sample(store, sample_path(name, sizes[-1]))
        if draw is not None and sample is not None and (found := _with_answers(draw, sample, events)) is not None:
            yield found


def _with_answers(draw: StoredDraw, sample: StoredSample, events: Mapping[ImageId, LabelEvent]) -> _AnsweredDraw | None:
    answers, _ = answers_in_order(sample, events, draw.archive)
    times = [events[ImageId(draw.archive, each.image)].time for each in sample.images[: len(answers)]]
    return _AnsweredDraw(draw, sample, answers, max(times)) if times else None


def _problem(store: Store, draw: StoredDraw, wanted: Audited) -> str | None:
    """Why an audit promises nothing of what a job labels; None if it does."""
    if draw.classifier != wanted.classifier:
        return (
            f"is of another classifier ({draw.classifier}, and this job's is {wanted.classifier}): method,"
            " hyperparameters, examples, classes or features were others, and its promise is none about this one"
        )
    if draw.archive != wanted.archive:
        return f"is of another archive ({draw.archive})"
    plan = read_plan(store, f"{RUNS}/{draw.run}")
    return "is of a run that is gone" if plan is None else _other_labels(plan, wanted)


def _other_labels(plan: RunPlan, wanted: Audited) -> str | None:
    if plan.cheap_predictions:
        return "is of a run with [escalate], whose labels a diffusion model decided"
    if plan.unknown_rate != wanted.unknown_rate:
        return "is of a run with another test of images of no class (unknown, unknown_rate)"
    return None


def _threshold(audit: _AnsweredDraw, *, max_error: float, confidence: float) -> AuditedThreshold:
    planned = min(audit.draw.planned, audit.sample.population)
    answered = Answered(audit.sample.to_draw(), audit.answers, planned=planned)
    found = error_limit(answered, max_error, confidence=confidence)
    return AuditedThreshold(
        max_error=max_error,
        confidence=confidence,
        draw=audit.draw.name,
        date=audit.latest[:DATE],
        population=audit.sample.population,
        answered=len(audit.answers),
        needed=found.needed,
        threshold=None if found.threshold is None else _as_scores(found.threshold),
        share=found.share,
        reaching=found.answered,
        wrong=found.wrong,
    )


def _as_scores(threshold: float) -> float:
    """The least float32 that is no smaller: scores are float32, and the same ones reach it."""
    rounded = np.float32(threshold)
    is_enough = float(rounded) >= threshold  # As a float32, the threshold would be rounded, too.
    return float(rounded if is_enough else np.nextafter(rounded, np.float32(np.inf)))
