"""How many examples a `max_error` needs, and which share of images is labelled at several maximum error rates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from fewshot.calibration.abstention import fewest_images, least_error
from fewshot.methods.table import folds_of
from ray_jobs.inputs.class_warnings import MIN_EXAMPLES
from ray_jobs.results.error_limits import ErrorLimitPlan, LabelledShare

if TYPE_CHECKING:
    from fewshot.calibration.abstention import HeldOutScores
    from ray_jobs.inputs.example_blocks import Examples
    from ray_jobs.job_file.sections import ClassifierSection
    from ray_jobs.output.classifiers import ClassifierRef

MAX_ERRORS = (0.05, 0.1, 0.2, 0.3)
"""Maximum error rates that are compared."""
FOLDS = 4
"""Folds that the examples of a class are divided into."""
MAX_HELD_OUT, MAX_PAIRS = 2048, 2**27
"""Held-out examples that calibration uses at most, and pairs of a held-out example and another one."""


def held_out_examples(counts: Collection[int], *, folds: int = FOLDS) -> int:
    """Return how many examples calibration holds out: those of classes with another one.

    With at most one example a class, all are held out, and compared with the names of their classes.

    Args:
        counts: number of examples of each class.
        folds: folds that the method is calibrated on, in [1, 4]; fewer where training is expensive.
    """
    examples = sum(counts)
    found = sum(_in_folds(count, folds) for count in counts if count >= MIN_EXAMPLES) or _in_folds(examples, folds)
    return min(found, MAX_HELD_OUT, MAX_PAIRS // max(1, examples))


def _in_folds(examples: int, folds: int) -> int:
    return examples // FOLDS * folds + min(examples % FOLDS, folds)


def error_limit_plan(
    section: ClassifierSection,
    support: Examples | None,
    classifier: ClassifierRef | None,
    validation: Examples | None = None,
) -> ErrorLimitPlan:
    """Return whether there are enough examples for a `max_error`.

    Args:
        section: the job's [classifier].
        support: the examples; None where a stored classifier needs none.
        classifier: the classifier; None if it is not trained yet.
        validation: the images to calibrate on; None for held-out examples.
    """
    held_out = classifier.held_out if classifier is not None else _held_out_of(section, support, validation)
    return ErrorLimitPlan(
        max_error=section.max_error,
        confidence=section.confidence,
        held_out=held_out,
        needed=None if section.max_error is None else fewest_images(section.max_error, confidence=section.confidence),
        least_error=least_error(held_out, confidence=section.confidence),
        shares=labelled_shares(None if classifier is None else classifier.held_out_scores(), section.confidence),
    )


def _held_out_of(section: ClassifierSection, support: Examples | None, validation: Examples | None) -> int:
    if support is not None and validation is not None:
        return min(len(validation.images), MAX_HELD_OUT, MAX_PAIRS // max(1, len(support.images)))
    counts = () if support is None else Counter(support.labels.labels).values()
    return held_out_examples(counts, folds=folds_of(section.method, section.hyperparameters))


def labelled_shares(scores: HeldOutScores | None, confidence: float) -> tuple[LabelledShare, ...]:
    """Return what would be labelled at each of `MAX_ERRORS`.

    Args:
        scores: of the held-out examples; None before the training.
        confidence: with which each maximum is to hold, in (0, 1).
    """
    return tuple(_shares(scores, confidence))


def _shares(scores: HeldOutScores | None, confidence: float) -> Iterator[LabelledShare]:
    for max_error in MAX_ERRORS:
        needed = fewest_images(max_error, confidence=confidence)
        if scores is None:
            yield LabelledShare(max_error=max_error, needed=needed)
            continue
        found = scores.guarantee(max_error, confidence=confidence)
        threshold = None if found.error_bound is None else found.threshold
        yield LabelledShare(max_error=max_error, needed=needed, threshold=threshold, held_out_share=found.coverage)


def shares_sentence(shares: Collection[LabelledShare]) -> str:
    """Describe in a sentence which share of the held-out examples would be labelled."""
    each = (f"{100 * (share.held_out_share or 0.0):.0f} % at max_error {share.max_error}" for share in shares)
    return f"share of the held-out examples that would be labelled: {', '.join(each)}"


def shortage(max_error: float | None, needed: int | None, held_out: int, least: float | None) -> str:
    """Describe in two sentences that there are too few examples for a maximum error rate, and what to do.

    Args:
        max_error: the maximum error rate.
        needed: the smallest number of held-out examples that can show it.
        held_out: held-out examples that there are.
        least: the least error rate that they can show, in (0, 1); None where there are none.
    """
    reachable = rounded_up(least)
    advice = "Add examples" if reachable is None else f"Add examples, or raise max_error to {reachable}"
    return (
        f"max_error = {max_error} needs at least {needed or 0:,} held-out examples, and there are {held_out:,}: every"
        f" prediction would be abstained. {advice}."
    )


def rounded_up(error: float | None) -> float | None:
    """Return an error rate in (0, 1) rounded up to hundredths; None where that is 1, or where there is none."""
    rounded = 1.0 if error is None else math.ceil(error * 100 - 1e-9) / 100
    return rounded if rounded < 1.0 else None
